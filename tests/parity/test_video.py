import json

import pytest
import torch

from roundview.diffusion.checkpoints.unet import shape_from_config
from roundview.diffusion.edm import guidance_triangle, karras_sigmas
from roundview.diffusion.video_unet import VideoUNet, sinusoids
from roundview.parity import Fixture, check_parity

CONFIG = {
    "in_channels": 17,
    "out_channels": 4,
    "model_channels": 32,
    "attention_resolutions": [1],
    "num_res_blocks": 1,
    "channel_mult": [1],
    "num_head_channels": 16,
    "context_dim": 24,
    "use_linear_in_transformer": True,
    "adm_in_channels": 32,
}


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@torch.no_grad()
def fixture() -> Fixture:
    """As of Hi3D's second stage: 13 channels beside the latents, two numbers, triangle guidance."""
    torch.manual_seed(0)
    net = VideoUNet(shape_from_config(CONFIG)).eval()
    scalars = torch.tensor([30.0, 0.02])
    x, beside, clip = randn(3, 4, 8, 8), randn(3, 13, 8, 8), randn(1, 1, 24)
    sigma, vector = torch.full((3,), 2.5), sinusoids(scalars[None], 16)
    joined = torch.cat([x, beside], 1)[None]
    fields = {
        "x": x,
        "concat": beside,
        "clip_embed": clip,
        "scalars": scalars,
        "sigma": sigma,
        "vector": vector,
        "c_noise": 0.25 * sigma.log(),
        "init_noise": randn(3, 4, 8, 9)[..., :8],
        "unet_out_image_only": net(joined, 0.25 * sigma[:1].log(), clip, vector, still=True)[0],
        "guidance_per_frame": guidance_triangle(1.0, 2.5, 3),
        "sigmas": karras_sigmas(2),
    }
    weights = {
        f"model.diffusion_model.{name}": tensor
        for name, tensor in net.layout().to_original(net.state_dict()).items()
    }
    facts = {
        "config": json.dumps(CONFIG),
        "guider": "TrianglePredictionGuider",
        "steps": "2",
        "outdim": "16",
        "num_frames": "3",
    }
    return Fixture(weights, fields, facts)


def test_every_field_of_a_clip_is_compared() -> None:
    found = check_parity(fixture())
    wanted = {"c_noise", "guidance_per_frame", "sigmas", "vector", "unet_out_image_only"}
    assert found.keys() == wanted
    assert all(error <= most for error, most in found.values())


@pytest.mark.parametrize("field", ["sigmas", "vector", "guidance_per_frame"])
def test_a_wrong_field_is_noticed(field: str) -> None:
    known = fixture()
    fields = {**known.fields, field: known.fields[field] + 0.01}
    error, most = check_parity(Fixture(known.weights, fields, known.facts))[field]
    assert error > most
