"""The families that draw views, on fixtures made by our own networks: the plumbing."""

import json

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from roundview.diffusion.checkpoints.unet import shape_from_config
from roundview.diffusion.imagedream import ImageDreamUNet, ResamplerShape
from roundview.diffusion.ldm_unet import LdmUNet, diffusers_config
from roundview.diffusion.zero123 import Zero123Net
from roundview.parity import Fixture, check_parity

CONFIG = {
    "in_channels": 8,
    "out_channels": 4,
    "model_channels": 32,
    "attention_resolutions": [1],
    "num_res_blocks": 1,
    "channel_mult": [1],
    "num_heads": 4,
    "context_dim": 24,
}


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@torch.no_grad()
def test_every_field_of_zero123_is_compared() -> None:
    net = Zero123Net(shape_from_config(CONFIG)).eval()
    x, beside, tokens = randn(2, 4, 8, 8), randn(3, 4, 8, 8)[:2], randn(2, 1, 24)
    five, t = randn(2, 5, 24), torch.tensor([4, 900])
    fields = {
        "x": x,
        "cond_latent": beside,
        "context": tokens,
        "context5": five,
        "t": t,
        "eps": net(x, t, beside, tokens),
        "eps_uncond": net(x, t, 0 * beside, 0 * tokens),
        "eps_cfg3": net.guided(x, t, beside, tokens, scale=3.0),
        "eps_context5": net(x, t, beside, five),
    }
    weights = net.layout().to_original(net.state_dict())
    found = check_parity(Fixture(weights, fields, {"config": json.dumps(CONFIG)}))
    assert {"eps", "eps_uncond", "eps_cfg3", "eps_context5"} <= found.keys()
    for name in ("eps", "eps_uncond", "eps_cfg3", "eps_context5"):
        error, most = found[name]
        assert error <= most


@torch.no_grad()
def test_both_modes_of_imagedream_are_compared() -> None:
    config = {**CONFIG, "in_channels": 4, "use_linear_in_transformer": True, "camera_dim": 16}
    tokens = ResamplerShape(
        features=20, width=32, depth=1, heads=2, head_width=8, tokens=3, context=24
    )
    net = ImageDreamUNet(shape_from_config(config), tokens).eval()
    x, t, context, camera = randn(5, 4, 8, 8), torch.full((5,), 7), randn(5, 6, 24), randn(5, 16)
    ip, ip_img = randn(5, 7, 20), randn(1, 4, 8, 8)
    local = (x[:4], t[:4], context[:4], camera[:4], ip[:4])
    fields = {
        "x": x,
        "t": t,
        "context": context,
        "camera": camera,
        "ip": ip,
        "ip_img": ip_img,
        "image_tokens": net.image_embed(ip),
        "eps_pixel": net(x, t, context, camera, ip, frames=5, picture=ip_img),
        "eps_pixel_uncond": net(x, t, context, camera, 0 * ip, frames=5, picture=0 * ip_img),
        "eps_local": net(*local, frames=4),
    }
    weights = {
        f"model.diffusion_model.{name}": tensor
        for name, tensor in net.layout().to_original(net.state_dict()).items()
    }
    facts = {"config": json.dumps(config), "resampler": json.dumps({"dim_head": 8})}
    found = check_parity(Fixture(weights, fields, facts))
    assert found.keys() == {"image_tokens", "eps_pixel", "eps_pixel_uncond", "eps_local"}
    assert all(error <= most for error, most in found.values())


@torch.no_grad()
def test_stable_diffusion_is_compared_with_diffusers_own_network() -> None:
    config = {**CONFIG, "in_channels": 4, "num_heads": 8}
    net = LdmUNet(shape_from_config(config)).eval()
    theirs = UNet2DConditionModel(**diffusers_config(net.shape)).eval()
    theirs.load_state_dict(net.unet.state_dict())
    x, t, context = randn(2, 4, 8, 8), torch.tensor([4, 900]), randn(2, 5, 24)
    fields = {"x": x, "t": t, "context": context, "eps": theirs(x, t, context).sample}
    original = net.layout().to_original(net.state_dict())
    weights = {f"model.diffusion_model.{name}": tensor for name, tensor in original.items()}
    fixture = Fixture(weights, fields, {"config": json.dumps(config)})
    error, most = check_parity(fixture)["eps"]
    assert error <= most / 10
    changed = {**fields, "eps": fields["eps"] + 1e-3}
    error, most = check_parity(Fixture(weights, changed, fixture.facts))["eps"]
    assert error > most
