"""Fixtures of networks that draw views or pictures: Zero123, MVDream and its kin, and SD."""

import torch
from torch import Tensor

from ..diffusion.checkpoints.layout import load_original, under
from ..diffusion.checkpoints.unet import shape_from_config
from ..diffusion.ddim import ScaledLinear, ddim, ddim_plan
from ..diffusion.imagedream import (
    ImageDreamUNet,
    ResamplerShape,
    resampler_shape_from_state,
)
from ..diffusion.ldm_unet import LdmUNet
from ..diffusion.zero123 import Zero123Net, pose_from_degrees
from .fixture import SAMPLED, Fixture, Outcome


def zero123(fixture: Fixture) -> dict[str, Outcome]:
    """Zero123's UNet with its projection, and its sampler."""
    net = Zero123Net(shape_from_config(fixture.config)).eval()
    kept = ("model.diffusion_model.", "cc_projection.")
    state = {n: t for n, t in fixture.weights.items() if n.startswith(kept)}
    load_original(net, net.layout(), state)
    f, out = fixture.fields, dict[str, Outcome]()
    if fixture.has("pose_deg"):
        out["pose4"] = Outcome(pose_from_degrees(f["pose_deg"]))
    if fixture.has("clip_embed", "pose4"):
        pose = f["pose4"].reshape(*f["clip_embed"].shape[:2], 4)
        out["context"] = Outcome(net.tokens(f["clip_embed"], pose))
    if fixture.has("x", "t", "cond_latent", "context"):
        x, t, beside, context = (f[name] for name in ("x", "t", "cond_latent", "context"))
        out["eps"] = Outcome(net(x, t, beside, context))
        out["eps_uncond"] = Outcome(net(x, t, torch.zeros_like(beside), torch.zeros_like(context)))
        out["eps_cfg3"] = Outcome(net.guided(x, t, beside, context, scale=3.0))
    if fixture.has("context5"):
        out["eps_context5"] = Outcome(net(f["x"], f["t"], f["cond_latent"], f["context5"]))
    return out | _ddim(net, fixture)


def _ddim(net: Zero123Net, fixture: Fixture) -> dict[str, Outcome]:
    plan = ddim_plan(50, eta=1.0)
    out = {
        "alphas_cumprod": Outcome(ScaledLinear().alphas_cumprod()),
        "ddim_timesteps_5": Outcome(ddim_plan(5).times.flip(0)),
        "ddim_timesteps_50": Outcome(plan.times.flip(0)),
        "ddim_alphas_50": Outcome(plan.alpha.flip(0)),
        "ddim_alphas_prev_50": Outcome(plan.alpha_after.flip(0)),
        "ddim_sigmas_50_eta1": Outcome(plan.sigma.flip(0)),
    }
    if fixture.has("x_T", "cond_latent", "context"):
        f = fixture.fields

        def predict(x: Tensor, t: Tensor) -> Tensor:
            return net.guided(x, t, f["cond_latent"], f["context"], scale=3.0)

        drawn = ddim(predict, f["x_T"], ddim_plan(5, drop_first=True))
        out["sample_5steps_cfg3_eta0"] = Outcome(drawn, SAMPLED)
    return out


def pictures(fixture: Fixture) -> dict[str, Outcome]:
    """Stable Diffusion's UNet, of single pictures, with whatever is laid beside the latents."""
    net = LdmUNet(shape_from_config(fixture.config)).eval()
    load_original(net, net.layout(), _unet_state(fixture))
    x, t, context = (_first(fixture, name) for name in ("x", "t", "context"))
    return {"eps": Outcome(net(x, t, context, vector=fixture.fields.get("vector")))}


def multiview(fixture: Fixture) -> dict[str, Outcome]:
    """MVDream's and Isotropic3D's UNet over several views."""
    net = LdmUNet(shape_from_config(fixture.config)).eval()
    load_original(net, net.layout(), _unet_state(fixture))
    f, out = fixture.fields, dict[str, Outcome]()
    frames = int(fixture.facts.get("num_frames", 4))
    if fixture.has("x", "t", "context", "camera"):
        x, t, context, camera = (f[name] for name in ("x", "t", "context", "camera"))
        together = net(x, t, context, vector=camera, frames=frames)
        out["eps"], out["mv4"] = Outcome(together), Outcome(together)
        alone = slice(0, len(f["single"]) if fixture.has("single") else 1)
        out["single"] = Outcome(net(x[alone], t[alone], context[alone], vector=camera[alone]))
    if fixture.has("ema_x", "ema_t", "ema_context", "ema_camera"):
        x, t, context, camera = (f[f"ema_{name}"] for name in ("x", "t", "context", "camera"))
        out["ema5"] = Outcome(net(x, t, context, vector=camera, frames=len(x)))
        # The same views without the clean one, which comes last.
        out["noema4"] = Outcome(
            net(x[:-1], t[:-1], context[:-1], vector=camera[:-1], frames=len(x) - 1)
        )
    return out


def imagedream(fixture: Fixture) -> dict[str, Outcome]:
    """ImageDream's UNet in pixel mode (the picture is a view) and in local mode (it is not)."""
    state = _unet_state(fixture)
    net = ImageDreamUNet(shape_from_config(fixture.config), _resampler_shape(fixture)).eval()
    load_original(net, net.layout(), state)
    f = fixture.fields
    x, t, context, camera = (_first(fixture, n) for n in ("x", "t", "context", "camera"))
    features = _first(fixture, "ip", "clip_hidden", "image_features")
    picture = _first(fixture, "ip_img", "image_latent", "cond_latent")
    out = {"image_tokens": Outcome(net.image_embed(features))}
    five = len(x)
    features = features.expand(five, -1, -1) if len(features) == 1 else features
    without = f.get("context_uncond", context)

    def draw(views: int, tokens: Tensor, words: Tensor, pixels: Tensor | None) -> Outcome:
        some = slice(0, views)
        drawn = net(
            x[some], t[some], words[some], camera[some], tokens[some], frames=views, picture=pixels
        )
        return Outcome(drawn)

    if fixture.has("eps_pixel"):
        out["eps_pixel"] = draw(five, features, context, picture)
    if fixture.has("eps_pixel_uncond"):
        nothing, blank = torch.zeros_like(features), torch.zeros_like(picture)
        out["eps_pixel_uncond"] = draw(five, nothing, without, blank)
    if fixture.has("eps_local"):
        out["eps_local"] = draw(len(f["eps_local"]), features, context, None)
    return out


def _unet_state(fixture: Fixture) -> dict[str, Tensor]:
    state = under(fixture.weights, "model.diffusion_model.")
    return state or dict(fixture.weights)


def _first(fixture: Fixture, *names: str) -> Tensor:
    for name in names:
        if fixture.has(name):
            return fixture.fields[name]
    raise ValueError(f"the fixture holds no {' or '.join(names)}")


def _resampler_shape(fixture: Fixture) -> ResamplerShape:
    """Read the resampler's sizes off its tensors; the heads' width is told by the metadata."""
    state = under(_unet_state(fixture), "image_embed.")
    told = fixture.sub_config("dim_head") or {}
    return resampler_shape_from_state(state, head_width=int(told.get("dim_head", 64)))
