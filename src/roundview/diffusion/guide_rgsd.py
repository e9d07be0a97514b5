"""RGSD: distillation towards what a rendering becomes when it is enhanced by the photograph.

Yu et al., "HiFi-123: Towards High-fidelity One Image to 3D Content Generation", 2024, section 3.3
and algorithm 1 of the supplement ("reference-guided state distillation"). Unlike in SDS nothing is
random but the view and the noise level: the rendering is inverted, drawn again with the
photograph's texture down to that level, and drawn towards what came out.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from .ddim import ddim
from .depth2image import (
    DepthDenoiser,
    Prompts,
    Reference,
    Rgnv,
    enhancing_predictor,
    source_predictor,
)
from .guide import clean_from_noise, noised
from .invert import invert, steps_of

FIXED_AZIMUTHS_DEG = (105.0, -105.0)
"""Azimuths of the two views whose enhanced pictures are kept, at the photograph's elevation.

The paper names neither. Chosen by us, untried: together with the photograph they see all sides.
"""


@dataclass(frozen=True, eq=False)
class Enhanced:
    """What renderings are drawn towards.

    Attributes:
        state: x~_tau, the enhanced state at the noise level.
        noise: eps~_tau, what the model says there; zeros at the clean level.
        share: a_tau, of the signal's variance; 1 at the clean level.
    """

    state: Float[Tensor, "n c h w"]
    noise: Float[Tensor, "n c h w"]
    share: float

    @property
    def clean(self) -> Float[Tensor, "n c h w"]:
        """What the model takes the enhanced state for: the x_0 that the loss draws towards."""
        return clean_from_noise(
            self.state, self.noise, torch.tensor(self.share, dtype=torch.float64).to(self.state)
        )


@torch.no_grad()
def enhanced_state(
    model: DepthDenoiser,
    reference: Reference,
    clean: Float[Tensor, "n c h w"],
    depth: Float[Tensor, "n 1 h w"],
    prompts: Prompts,
    *,
    level: int,
) -> Enhanced:
    """Invert renderings by l steps and draw them down to a level with the photograph's texture.

    Args:
        model: The one that the reference was made with.
        reference: Of the photograph, made with `PAPER_RGSD` or other settings without
            `from_reference_noise`.
        clean: Latents of the renderings.
        depth: Their depth, see `depth2image.depth_map`.
        prompts: Source, target and negative.
        level: tau, in steps above clean: 0 to l.

    Raises:
        ValueError: If the level is out of range or the settings draw from the photograph's noise.
    """
    settings, plan = reference.settings, reference.plan
    if settings.from_reference_noise:
        raise ValueError("RGSD draws renderings from their own noise: from_reference_noise is set")
    if not 0 <= level <= settings.kept_steps:
        raise ValueError(f"level must lie in 0..{settings.kept_steps}, got {level}")
    source = source_predictor(model, depth, prompts, settings)
    noisy = invert(source, clean.detach(), plan, steps=settings.kept_steps)[-1]
    draw = enhancing_predictor(model, reference, depth, prompts)
    state = ddim(draw, noisy, steps_of(plan, settings.first_step, settings.steps - level))
    if level == 0:
        return Enhanced(state, torch.zeros_like(state), 1.0)
    at = settings.steps - level
    time = torch.full((len(state),), int(plan.times[at]), device=state.device)
    return Enhanced(state, draw(state, time), float(plan.alpha[at]))


def rgsd_loss(clean: Float[Tensor, "n c h w"], enhanced: Enhanced) -> Float[Tensor, ""]:
    """Average |x_tau - x~_tau|^2 with x_tau = alpha x_0 + sigma eps~_tau (algorithm 1, line 13).

    Its gradient at x_0 is that of a^2 |x_0 - xhat_0|^2, where a^2 is the signal's share and xhat_0
    is `enhanced.clean`. The paper does not say whether it sums or averages.

    Args:
        clean: Latents of the renderings, with their graph.
        enhanced: Of the same renderings, or at level 0 kept from before.
    """
    share = torch.tensor(enhanced.share, dtype=torch.float64).to(clean)
    return (noised(clean, enhanced.noise, share) - enhanced.state).square().mean()


def fixed_view(step: int, fixed: int) -> int | None:
    """Say which of the fixed views is due at a step; None for a random one, every other step."""
    return None if step % 2 or fixed == 0 else step // 2 % fixed


def draw_level(settings: Rgnv, rng: Generator) -> int:
    """Draw tau for a random view: 1 to l - 1, all alike; the clean level is the fixed views'."""
    most = max(settings.kept_steps - 1, 1)
    return int(torch.randint(1, most + 1, (), generator=rng))
