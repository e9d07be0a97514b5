"""Fixtures of guidance by diffusion models: HiFi-123's enhancement of views, Isotropic3D's SDS."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..diffusion.attention import Memory
from ..diffusion.checkpoints.layout import load_original, under
from ..diffusion.checkpoints.unet import shape_from_config
from ..diffusion.ddim import ddim
from ..diffusion.depth2image import (
    RELEASED_CODE,
    DepthDenoiser,
    Prompts,
    Rgnv,
    SharedDepthUNet,
    enhance,
    enhancing_predictor,
    remember_reference,
    source_predictor,
)
from ..diffusion.guide import (
    Guided,
    distillation_loss,
    reconstruction_gradient,
    sds_gradient,
)
from ..diffusion.invert import invert, steps_of
from ..diffusion.ldm_unet import LdmUNet
from ..frames import isotropic3d_from_angles
from .fixture import SINGLE, Fixture, Outcome

CASES: dict[str, Rgnv] = {
    "default": RELEASED_CODE,
    "noinject": replace(RELEASED_CODE, first_layer=16),
    "cfg1_5": replace(RELEASED_CODE, guidance=1.5),
    "T20": replace(RELEASED_CODE, steps=20, kept_steps=12, guidance=7.5),
}
"""Settings of the original's runs."""


def rgnv(fixture: Fixture) -> dict[str, Outcome]:
    """HiFi-123's inversions and enhanced views, in every case that the fixture holds.

    Tolerances are relative to the largest number: guidance by 9 over 50 steps amplifies rounding.
    """
    net = SharedDepthUNet.from_config(fixture.config).eval()
    net.unet.load_state_dict(dict(fixture.weights), strict=True)
    out = dict[str, Outcome]()
    for case, settings in CASES.items():
        if fixture.has(f"{case}.start_code"):
            ours = _enhanced(net, fixture.fields, case, settings)
            for name, value in ours.items():
                whole = f"{case}.{name}"
                if fixture.has(whole):
                    most = float(fixture.fields[whole].abs().max())
                    out[whole] = Outcome(value, SINGLE * max(most, 1.0))
    return out


def isotropic3d_guidance(fixture: Fixture) -> dict[str, Outcome]:
    """Isotropic3D's losses and gradients of latents, in every case that the fixture holds.

    The network is the one of `isotropic3d_unet_tiny`; tolerances are relative, as above.
    """
    unet = LdmUNet(shape_from_config(fixture.config)).eval()
    load_original(unet, unet.layout(), under(fixture.weights, "model.diffusion_model."))
    f, out = fixture.fields, dict[str, Outcome]()
    camera = isotropic3d_from_angles(f["az"], f["el"])
    latents, noise, shares = f["latents"], f["noise"], f["alphas_cumprod"]
    tokens = f["context_cond"].expand(len(latents), -1, -1)

    def predict(x: Tensor, t: Int[Tensor, " b"], context: Tensor) -> Tensor:
        return unet(x, t, context, vector=camera, frames=4)

    # Isotropic3D's scale (paper, section 4.1), in its first form.
    guided = Guided(predict, tokens, torch.zeros_like(tokens), 10.0)
    for kind, rescale in (("sds", None), ("recon", 0.5), ("recon_norescale", 0.0)):
        for time in (100, 500, 900):
            name = f"{kind}_t{time}"
            if not fixture.has(f"{name}_grad"):
                continue
            t = torch.full((len(latents),), time)
            if rescale is None:
                gradient = sds_gradient(guided, latents, t, noise, shares=shares)
            else:
                gradient = reconstruction_gradient(
                    guided, latents, t, noise, shares=shares, rescale=rescale, frames=4
                )
            loss = distillation_loss(latents, gradient)
            for part, value in (("grad", gradient / len(latents)), ("loss", loss)):
                most = float(f[f"{name}_{part}"].abs().max())
                out[f"{name}_{part}"] = Outcome(value, SINGLE * most)
    return out


def _enhanced(
    net: SharedDepthUNet, f: Mapping[str, Tensor], case: str, settings: Rgnv
) -> dict[str, Tensor]:
    """Run one case."""
    empty, target = f["text_empty_and_target"].split(1)
    prompts, depth = Prompts(empty, target, empty), f["depth"]
    steps, inverted = settings.steps, settings.kept_steps + 1
    watched = _Watched(net)
    reference = remember_reference(watched, f["src"], depth[:1], prompts, settings)
    # What the network is asked about is what the step before left; nobody asks about the last.
    of_photo = [*watched.asked[steps + 1 :], reference.drawn]
    watched.asked.clear()
    enhanced = enhance(watched, reference, f["tgt"], depth[1:], prompts, mask=f["mask"])
    of_view = [*(x[:1] for x in watched.asked[inverted + 1 :]), enhanced]
    # The original was looked at before it pasted its own inversion in.
    cut = steps - settings.kept_steps
    draw = enhancing_predictor(net, reference, depth[1:], prompts)
    of_view[cut] = ddim(draw, reference.inverted[-1], steps_of(reference.plan, 0, cut + 1))
    source = source_predictor(net, depth[1:], prompts, settings)
    levels = invert(source, f["tgt"], reference.plan, steps=inverted)
    out = {
        "start_code": reference.inverted[-1],
        "src_inv": reference.inverted[::10],
        "xt": levels[-1],
        "xt_len": torch.tensor(len(levels)),
        "final_latents": torch.cat([reference.drawn, enhanced]),
    }
    if f"{case}.step_idx" in f:
        at = f[f"{case}.step_idx"].tolist()
        out["step_latents"] = torch.stack([torch.cat([of_photo[i], of_view[i]]) for i in at])
    return out


class _Watched:
    """A network that keeps what it was asked about."""

    def __init__(self, net: DepthDenoiser) -> None:
        self.net, self.asked = net, list[Tensor]()

    def __call__(
        self,
        x: Float[Tensor, "b c h w"],
        t: Int[Tensor, " b"],
        depth: Float[Tensor, "b 1 h w"],
        tokens: Float[Tensor, "b k d"],
        *,
        record: Memory | None = None,
        borrow: Memory | None = None,
    ) -> Float[Tensor, "b c h w"]:
        self.asked.append(x)
        return self.net(x, t, depth, tokens, record=record, borrow=borrow)
