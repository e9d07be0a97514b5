import json

import torch

from roundview.diffusion.checkpoints.autoencoder import AutoencoderShape
from roundview.diffusion.clip import ClipShape, ClipTower, clip_input
from roundview.diffusion.ldm_autoencoder import ClipDecoder, LdmAutoencoder
from roundview.parity import Fixture, check_parity

SMALL = AutoencoderShape(width=32, widths=(1, 1), res_blocks=1)


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def prefixed(prefix: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


@torch.no_grad()
def test_an_autoencoder_is_compared_both_ways() -> None:
    net = LdmAutoencoder(SMALL).eval()
    weights = prefixed("first_stage_model.", net.layout().to_original(net.state_dict()))
    image, z = randn(2, 3, 16, 16), randn(2, 4, 8, 8)
    moments = net.moments(image)
    fields = {
        "image": image,
        "z": z,
        "moments": moments,
        "mode": moments[:, :4],
        "decoded": net.decode(z),
    }
    found = check_parity(Fixture(weights, fields, {}))
    assert found.keys() == {"moments", "mode", "decoded"}
    assert all(error <= most for error, most in found.values())


@torch.no_grad()
def test_a_clip_decoder_is_compared_on_one_clip_and_on_two() -> None:
    net = ClipDecoder(SMALL).eval()
    weights = prefixed("first_stage_model.", net.layout().to_original(net.state_dict()))
    z = randn(4, 4, 8, 8)
    fields = {
        "z": z,
        "decoded_T4": net.decode(z[None])[0],
        "decoded_2x2": net.decode(z.reshape(2, 2, 4, 8, 8)).flatten(0, 1),
    }
    found = check_parity(Fixture(weights, fields, {}))
    assert found.keys() == {"decoded_T4", "decoded_2x2"}
    assert all(error <= most for error, most in found.values())


@torch.no_grad()
def test_an_image_tower_is_compared_with_its_preparation() -> None:
    config = {
        "embed_dim": 12,
        "vision_cfg": {"image_size": 28, "layers": 1, "width": 32, "head_width": 16}
        | {"patch_size": 14},
    }
    net = ClipTower(ClipShape(32, 1, 2, 14, 28, 12, quick=False)).eval()
    for parameter in net.parameters():
        parameter.copy_(0.2 * randn(*parameter.shape))
    picture = torch.randint(0, 256, (1, 3, 40, 40), generator=torch.Generator().manual_seed(0))
    prepared = clip_input(picture.float() / 255 * 2 - 1, side=28, antialias=True)
    fields = {"image_u8": picture.byte(), "preprocessed": prepared, "embed": net(prepared)}
    weights = prefixed("cond_stage_model.model.visual.", net.state_dict())
    found = check_parity(Fixture(weights, fields, {"open_clip_cfg": json.dumps(config)}))
    assert found.keys() == {"preprocessed", "embed"}
    assert all(error <= most for error, most in found.values())
