"""Fixtures of networks that draw clips: Stable Video Diffusion, SV3D, Hi3D's two stages."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..diffusion.checkpoints.layout import load_original, under
from ..diffusion.checkpoints.unet import shape_from_config
from ..diffusion.edm import (
    denoised,
    euler,
    guidance_ramp,
    guidance_triangle,
    guided,
    karras_sigmas,
)
from ..diffusion.video_unet import VideoUNet, sinusoids
from .fixture import SAMPLED, Fixture, Outcome


def video_unet(fixture: Fixture) -> dict[str, Outcome]:
    """The UNet, its preconditioning, and a few steps of its sampler with guidance."""
    net = VideoUNet(shape_from_config(fixture.config)).eval()
    state = under(fixture.weights, "model.diffusion_model.") or dict(fixture.weights)
    load_original(net, net.layout(), state)
    f, facts = fixture.fields, fixture.facts
    x, beside, clip, vector = (f[n] for n in ("x", "concat", "clip_embed", "vector"))
    frames = int(facts.get("num_frames", len(x)))
    sigma = f["sigma"][:1]
    scaled = x * (sigma**2 + 1).rsqrt().reshape(1, 1, 1, 1)
    noise_level = 0.25 * sigma.log()
    steps, first, last = (float(facts.get(k, v)) for k, v in _SAMPLER.items())
    scale = _guidance(facts.get("guider", ""))(first, last, frames)
    sigmas = karras_sigmas(int(steps))
    # One vector a clip, or one a frame.
    per_clip = vector if len(vector) == 1 else vector[None]

    def network(tokens: Tensor, latents: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        def run(y: Tensor, c_noise: Tensor) -> Tensor:
            return net(torch.cat([y, latents[None]], dim=2), c_noise, tokens, per_clip)

        return run

    known = network(clip, beside)
    unknown = network(torch.zeros_like(clip), torch.zeros_like(beside))

    def denoise(y: Tensor, level: float) -> Tensor:
        at = torch.tensor([level])
        return guided(denoised(known, y, at), denoised(unknown, y, at), scale)

    together = torch.cat([x, beside], dim=1)[None]
    out = {
        "c_noise": Outcome(0.25 * f["sigma"].log()),
        "guidance_per_frame": Outcome(scale),
        "sigmas": Outcome(sigmas),
        "unet_out": Outcome(known(scaled[None], noise_level)),
        "unet_out_image_only": Outcome(net(together, noise_level, clip, per_clip, still=True)),
        "denoised": Outcome(denoised(known, x[None], sigma)),
    }
    if fixture.has("scalars", "vector") and "outdim" in facts:
        told = sinusoids(f["scalars"].reshape(1, -1), int(facts["outdim"]))
        if told.shape[1] == vector.shape[-1]:
            out["vector"] = Outcome(told.expand_as(vector))
    if fixture.has("init_noise", "sampled"):
        out["sampled"] = Outcome(euler(denoise, f["init_noise"][None], sigmas), SAMPLED)
    return out


_SAMPLER = {"steps": 4, "gmin": 1.0, "gmax": 2.5}


def _guidance(name: str) -> Callable[[float, float, int], Tensor]:
    return guidance_triangle if "triangle" in name.lower() else guidance_ramp
