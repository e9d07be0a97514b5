"""RGNV: a coarse view is drawn anew with the texture of a photograph.

Yu et al., "HiFi-123: Towards High-fidelity One Image to 3D Content Generation", 2024, section 3.2
("reference-guided novel view enhancement"). Photograph and coarse view are inverted by a model that
knows their depth; then the coarse view is drawn from its noise while its self-attention looks at
the photograph. Nothing is trained. Works on latents; `SharedDepthUNet` is such a model.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..models import Report, silent
from .attention import Memory, Sharing
from .ddim import DdimPlan, Predictor, ddim
from .guide import Form, guided_noise
from .invert import invert, plan_from_zero, steps_of


@runtime_checkable
class DepthDenoiser(Protocol):
    """Predicts noise from noisy latents and a depth map; its self-attention can be shared."""

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
        """Predict; fill `record`, and take keys and values from `borrow` where it holds any."""
        ...


class SharedDepthUNet(nn.Module):
    """A UNet of diffusers with one channel for depth, like `stable-diffusion-2-depth`'s.

    Takes the UNet as it is: from a diffusers checkpoint, or `LdmUNet(shape).unet` from one in the
    LDM layout. Its self-attention processors are exchanged.
    """

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.unet = unet
        self.sharing = Sharing(unet)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "SharedDepthUNet":
        """Build an empty one from diffusers' configuration."""
        return cls(UNet2DConditionModel(**config))

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        t: Int[Tensor, " b"],
        depth: Float[Tensor, "b 1 h w"],
        tokens: Float[Tensor, "b k d"],
        *,
        record: Memory | None = None,
        borrow: Memory | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """Predict noise.

        Args:
            x: Noisy latents.
            t: Training step, 0 to 999.
            depth: See `depth_map`.
            tokens: Of the prompt.
            record: Filled with what self-attention is shown.
            borrow: What self-attention is shown instead, for a whole number of samples a row.
        """
        self.sharing.begin(record, borrow)
        try:
            return self.unet(torch.cat([x, depth], dim=1), t, tokens, return_dict=False)[0]
        finally:
            self.sharing.begin(None, None)


@dataclass(frozen=True)
class Rgnv:
    """Settings; the defaults are the paper's, see `RELEASED_CODE` for what its code does.

    Attributes:
        steps: T, of the sampler's plan.
        kept_steps: l: the coarse view is inverted and drawn anew over so many steps. More take the
            photograph's texture more strongly, but may alter the shape.
        guidance: Scale towards the prompt.
        form: Of the guidance.
        first_injection: Step of the plan from which attention is shared.
        first_layer: Self-attention layer from which it is; Stable Diffusion has 16.
        from_reference_noise: Draw the coarse view over all steps from the photograph's noise, and
            paste its own inversion in inside the mask, one step too noisy and one step too late.
    """

    steps: int = 50
    kept_steps: int = 30
    guidance: float = 7.5  # Stated for RGSD only.
    form: Form = "from_unconditional"
    first_injection: int = 0
    first_layer: int = 0
    from_reference_noise: bool = False

    def __post_init__(self) -> None:
        """Refuse more steps than there are."""
        most = self.steps - self.from_reference_noise
        if not 1 <= self.kept_steps <= most:
            raise ValueError(f"kept_steps must lie in 1..{most}, got {self.kept_steps}")

    @property
    def first_step(self) -> int:
        """Place in the plan of the first step that is drawn."""
        return 0 if self.from_reference_noise else self.steps - self.kept_steps


PAPER = Rgnv()
"""HiFi-123, section 4.1: T = 50, l = 30, every self-attention layer in all l steps."""
PAPER_RGSD = Rgnv(steps=20, kept_steps=12)
"""HiFi-123, supplement 2.2: T = 20, l = 12, guidance 7.5."""
RELEASED_CODE = Rgnv(guidance=9.0, first_injection=4, first_layer=12, from_reference_noise=True)
"""What the authors' released program does, its quirks included."""


@dataclass(frozen=True, eq=False)
class Prompts:
    """Tokens of what the pictures show.

    Attributes:
        source: Of both inversions and of the photograph; the paper's is empty.
        target: Of the enhanced view.
        negative: Of guidance; empty, too.
    """

    source: Float[Tensor, "1 k d"]
    target: Float[Tensor, "1 k d"]
    negative: Float[Tensor, "1 k d"]


@dataclass(frozen=True, eq=False)
class Reference:
    """What views borrow from the photograph: made once, for any number of them.

    Attributes:
        settings: That it was made with.
        inverted: The photograph's latents at every level, cleanest first.
        drawn: Its latents as they were drawn again.
        memories: What its self-attention was shown, by training step.
    """

    settings: Rgnv
    inverted: Float[Tensor, "levels 1 c h w"]
    drawn: Float[Tensor, "1 c h w"]
    memories: dict[int, Memory] = field(repr=False)

    @property
    def plan(self) -> DdimPlan:
        """The steps, from noise to clean."""
        return plan_from_zero(self.settings.steps)


@torch.no_grad()
def remember_reference(
    model: DepthDenoiser,
    photo: Float[Tensor, "1 c h w"],
    depth: Float[Tensor, "1 1 h w"],
    prompts: Prompts,
    settings: Rgnv = PAPER,
    *,
    report: Report = silent,
) -> Reference:
    """Invert the photograph, draw it again, and keep what its self-attention was shown.

    Args:
        model: Knows depth.
        photo: Latents of the photograph.
        depth: Its depth, see `depth_map`.
        prompts: The source and the negative one are used.
        settings: All views that borrow from it will have the same.
        report: Called with the fraction done.
    """
    plan = plan_from_zero(settings.steps)
    first = settings.first_step
    memories: dict[int, Memory] = {}
    injected = set(plan.times[settings.first_injection :].tolist())

    def remember(x: Tensor, t: Int[Tensor, " b"]) -> Tensor:
        time = int(t[0])
        record = Memory(settings.first_layer) if time in injected else None
        if record is not None:
            memories[time] = record
        return _source_noise(model, x, t, depth, prompts, settings, record)

    levels = invert(
        source_predictor(model, depth, prompts, settings),
        photo,
        plan,
        steps=settings.steps - first,
        report=lambda done: report(done / 2),
    )
    drawn = ddim(
        remember, levels[-1], steps_of(plan, first), report=lambda done: report((1 + done) / 2)
    )
    return Reference(settings, levels, drawn, memories)


@torch.no_grad()
def enhance(
    model: DepthDenoiser,
    reference: Reference,
    coarse: Float[Tensor, "n c h w"],
    depth: Float[Tensor, "n 1 h w"],
    prompts: Prompts,
    *,
    mask: Float[Tensor, "n 1 h w"] | None = None,
    report: Report = silent,
) -> Float[Tensor, "n c h w"]:
    """Draw coarse views again with the photograph's texture.

    Args:
        model: The one that the reference was made with.
        reference: Of the photograph.
        coarse: Latents of the views.
        depth: Their depth, see `depth_map`.
        prompts: Source (to invert), target and negative.
        mask: 1 on the subject; used with `from_reference_noise` only, where all else is drawn from
            the photograph's noise. None for all.
        report: Called with the fraction done.

    Returns:
        Latents of the enhanced views.
    """
    settings, plan = reference.settings, reference.plan
    late = 1 if settings.from_reference_noise else 0
    own = invert(
        source_predictor(model, depth, prompts, settings),
        coarse,
        plan,
        # The released loop tests for its end after the step: one too many.
        steps=settings.kept_steps + late,
        report=lambda done: report(done / 2),
    )[-1]
    draw = enhancing_predictor(model, reference, depth, prompts)

    def told(done: float) -> None:
        report((1 + done) / 2)

    if not late:
        return ddim(draw, own, steps_of(plan, settings.first_step), report=told)
    inside = torch.ones_like(depth) if mask is None else mask
    # The released loop pastes after the step that the inversion would belong before.
    cut = settings.steps - settings.kept_steps + late
    start = reference.inverted[-1].expand_as(coarse)
    halfway = ddim(draw, start, steps_of(plan, 0, cut))
    return ddim(draw, inside * own + (1 - inside) * halfway, steps_of(plan, cut), report=told)


def source_predictor(
    model: DepthDenoiser, depth: Float[Tensor, "n 1 h w"], prompts: Prompts, settings: Rgnv
) -> Predictor:
    """Predict noise of pictures with the source prompt, for inversions."""

    def predict(x: Tensor, t: Int[Tensor, " b"]) -> Tensor:
        return _source_noise(model, x, t, depth, prompts, settings, None)

    return predict


def enhancing_predictor(
    model: DepthDenoiser, reference: Reference, depth: Float[Tensor, "n 1 h w"], prompts: Prompts
) -> Predictor:
    """Predict noise of views with the target prompt while they look at the photograph."""
    settings = reference.settings
    # At this scale what would be said without the prompt cancels out.
    plain = settings.guidance == (1.0 if settings.form == "from_unconditional" else 0.0)

    def predict(x: Tensor, t: Int[Tensor, " b"]) -> Tensor:
        borrow = reference.memories.get(int(t[0]))
        if plain:
            return model(x, t, depth, prompts.target.expand(len(x), -1, -1), borrow=borrow)
        noise = model(
            torch.cat([x, x]),
            torch.cat([t, t]),
            torch.cat([depth, depth]),
            _halves(prompts.negative, prompts.target, len(x)),
            borrow=borrow,
        )
        without, given = noise.chunk(2)
        return guided_noise(given, without, settings.guidance, settings.form)

    return predict


def depth_map(
    depth: Float[Tensor, "n h w"], size_hw: tuple[int, int]
) -> Float[Tensor, "n 1 hl wl"]:
    """Bring depth to what the model was trained with: -1 to 1 in each picture, the latents' size.

    Args:
        depth: Inverse depth (near is large), as MiDaS gives it, in any unit; multiplied by the
            subject's mask if only that counts.
        size_hw: Of the latents.
    """
    least, most = depth.amin(dim=(1, 2), keepdim=True), depth.amax(dim=(1, 2), keepdim=True)
    # The small number is of HiFi-123's code; it keeps flat maps finite.
    even = 2 * (depth - least) / (most - least + 1e-3) - 1
    return torch.nn.functional.interpolate(even[:, None], size_hw, mode="bicubic")


def _source_noise(
    model: DepthDenoiser,
    x: Tensor,
    t: Int[Tensor, " b"],
    depth: Tensor,
    prompts: Prompts,
    settings: Rgnv,
    record: Memory | None,
) -> Tensor:
    """Predict with the source prompt and guidance, which has no effect where both are empty."""
    if torch.equal(prompts.source, prompts.negative):
        return model(x, t, depth, prompts.source.expand(len(x), -1, -1), record=record)
    tokens = _halves(prompts.negative, prompts.source, len(x))
    noise = model(
        torch.cat([x, x]), torch.cat([t, t]), torch.cat([depth, depth]), tokens, record=record
    )
    without, given = noise.chunk(2)
    return guided_noise(given, without, settings.guidance, settings.form)


def _halves(
    negative: Float[Tensor, "1 k d"], given: Float[Tensor, "1 k d"], count: int
) -> Float[Tensor, "b k d"]:
    return torch.cat([negative, given]).repeat_interleave(count, dim=0)
