"""Score distillation: a diffusion model says how a rendering should change.

Poole et al., "DreamFusion: Text-to-3D using 2D Diffusion", 2023, and what came after it. A model is
any function that predicts noise from a noisy sample, a training step and a condition; what it
guides is any tensor that was rendered. Values are those of threestudio (Guo et al., 2023).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeAlias, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from .ddim import Predictor
from .noise import randn

Condition = TypeVar("Condition")
NoiseModel: TypeAlias = Callable[[Tensor, Int[Tensor, " b"], Condition], Tensor]
"""model(x_t, t, condition) -> noise; t is a training step, one entry a sample."""

Form: TypeAlias = Literal["from_unconditional", "from_conditional"]
"""What guidance starts from: eps_u + s (eps_c - eps_u) or eps_c + s (eps_c - eps_u).

The second is (1 + s) eps_c - s eps_u; its s is one less for the same result. threestudio's Stable
Diffusion and DeepFloyd guidance and the papers' text use it, all else the first.
"""
Weighting: TypeAlias = Literal["sds", "uniform", "fantasia3d"]
"""w(t): 1 - a (DreamFusion), 1, or sqrt(a) (1 - a) (Fantasia3D), a the signal's share."""


@dataclass(frozen=True, eq=False)
class Guided(Generic[Condition]):
    """A model with its condition and classifier-free guidance: a `Predictor` for any sampler.

    Ho and Salimans, "Classifier-Free Diffusion Guidance", 2022.

    Attributes:
        model: Predicts noise.
        given: What the sample shall be like.
        without: What stands for no condition.
        scale: s of the form.
        form: See `Form`.
    """

    model: NoiseModel[Condition]
    given: Condition
    without: Condition
    scale: float
    form: Form = "from_unconditional"

    @property
    def neutral(self) -> bool:
        """Whether the scale is such that the answer without the condition does not matter."""
        return self.scale == (1.0 if self.form == "from_unconditional" else 0.0)

    def parts(self, x: Tensor, t: Int[Tensor, " b"]) -> tuple[Tensor, Tensor]:
        """Predict the noise with the condition and without it; both alike where `neutral`."""
        given = self.model(x, t, self.given)
        return given, given if self.neutral else self.model(x, t, self.without)

    def __call__(self, x: Tensor, t: Int[Tensor, " b"]) -> Tensor:
        """Predict the noise, guidance included."""
        return guided_noise(*self.parts(x, t), self.scale, self.form)


def guided_noise(given: Tensor, without: Tensor, scale: float, form: Form) -> Tensor:
    """Push a prediction away from that without the condition."""
    start = without if form == "from_unconditional" else given
    return start + scale * (given - without)


def sds_gradient(
    predict: Predictor,
    clean: Tensor,
    t: Int[Tensor, " b"],
    noise: Tensor,
    *,
    shares: Float[Tensor, " steps"],
    weighting: Weighting = "sds",
) -> Tensor:
    """Give DreamFusion's gradient: w(t) (eps(sqrt(a) x + sqrt(1 - a) n, t) - n), their equation 3.

    Args:
        predict: Predicts noise, guidance included: a `Guided`, or anything of that form.
        clean: What was rendered, or its latents; samples along the first axis.
        t: Training step of each sample.
        noise: Unit normal, like `clean`.
        shares: Share of the signal's variance after each training step (`alphas_cumprod`).
        weighting: See `Weighting`.

    Returns:
        The gradient at `clean`, not divided by the number of samples.
    """
    share = shares_at(shares, t, clean)
    with torch.no_grad():
        predicted = predict(noised(clean, noise, share), t)
    return _weight(share, weighting) * (predicted - noise)


def sjc_gradient(
    predict: Predictor,
    clean: Tensor,
    t: Int[Tensor, " b"],
    noise: Tensor,
    *,
    shares: Float[Tensor, " steps"],
    variance_reduced: bool = True,
) -> Tensor:
    """Give the gradient of score Jacobian chaining.

    Wang et al., "Score Jacobian Chaining: Lifting Pretrained 2D Diffusion Models for 3D
    Generation", 2023: with sigma = sqrt((1 - a) / a) and z = x + sigma n, the denoiser is
    D = z - sigma eps(z / sqrt(1 + sigma^2), t), and the gradient (x - D) / sigma, or without
    variance reduction (z - D) / sigma. Arguments as in `sds_gradient`.
    """
    share = shares_at(shares, t, clean)
    sigma = ((1 - share) / share).sqrt()
    noisy = clean + sigma * noise
    with torch.no_grad():
        estimate = noisy - sigma * predict(noisy / (1 + sigma**2).sqrt(), t)
    return ((clean if variance_reduced else noisy) - estimate) / sigma


def reconstruction_gradient(
    guided: Guided[Condition],
    clean: Tensor,
    t: Int[Tensor, " b"],
    noise: Tensor,
    *,
    shares: Float[Tensor, " steps"],
    rescale: float = 0.5,
    frames: int = 1,
) -> Tensor:
    """Give the gradient towards the clean sample that the model sees: x - x_0'.

    Shi et al., "MVDream: Multi-view Diffusion for 3D Generation", 2023, section 3.3; Isotropic3D
    (Liu et al., 2024) uses it, too. Guidance makes x_0 too contrasted: the share `rescale` of x_0'
    is x_0 brought to the standard deviation of the estimate without guidance (Lin et al., "Common
    Diffusion Noise Schedules and Sample Steps are Flawed", 2024, equations 15 and 16).

    Args:
        guided: The model with its condition.
        clean: As in `sds_gradient`.
        t: As in `sds_gradient`.
        noise: As in `sds_gradient`.
        shares: As in `sds_gradient`.
        rescale: Share of the rescaled estimate, 0 for none.
        frames: Views whose standard deviation is taken together: all views of an object.
    """
    share = shares_at(shares, t, clean)
    noisy = noised(clean, noise, share)
    with torch.no_grad():
        given, without = guided.parts(noisy, t)
    pushed = clean_from_noise(noisy, guided_noise(given, without, guided.scale, guided.form), share)
    if rescale > 0:
        plain = clean_from_noise(noisy, given, share)
        factor = _deviation(plain, frames) / _deviation(pushed, frames)
        pushed = rescale * factor * pushed + (1 - rescale) * pushed
    return clean - pushed


def distillation_loss(value: Tensor, gradient: Tensor) -> Float[Tensor, ""]:
    """Give a scalar whose gradient at `value` is `gradient` divided by the number of samples.

    0.5 |value - target|^2 / samples with target = value - gradient held fixed: its size tells how
    much the model objects, as that of a plain inner product would not.
    """
    target = (value - torch.nan_to_num(gradient)).detach()
    return 0.5 * (value - target).square().sum() / len(value)


def picture_gradient(
    picture: Tensor, encode: Callable[[Tensor], Tensor], gradient: Callable[[Tensor], Tensor]
) -> Tensor:
    """Carry a gradient at latents back to the picture that they are of.

    Args:
        picture: What was rendered; any graph behind it is left alone.
        encode: Makes latents, differentiable.
        gradient: Gives the gradient at (detached) latents.
    """
    leaf = picture.detach().requires_grad_()
    with torch.enable_grad():
        latents = encode(leaf)
    wanted = gradient(latents.detach())
    return torch.autograd.grad(latents, leaf, torch.nan_to_num(wanted))[0]


def noised(clean: Tensor, noise: Tensor, share: Tensor) -> Tensor:
    """Mix a clean sample with noise, `share` of the variance being the sample's."""
    return share.sqrt() * clean + (1 - share).sqrt() * noise


def clean_from_noise(noisy: Tensor, noise: Tensor, share: Tensor) -> Tensor:
    """Estimate the clean sample from a prediction of the noise; undoes `noised`."""
    return (noisy - (1 - share).sqrt() * noise) / share.sqrt()


def shares_at(shares: Float[Tensor, " steps"], t: Int[Tensor, " b"], like: Tensor) -> Tensor:
    """Pick the signal's share at each sample's training step, ready to multiply samples with."""
    # Indexed where the table lies: schedules are kept on the CPU.
    picked = shares[t.to(shares.device)].to(like)
    return picked.reshape(-1, *[1] * (like.ndim - 1))


@dataclass(frozen=True)
class Ramp:
    """A value that goes evenly from `first` at step `begin` to `last` at step `end`.

    threestudio writes these as [begin, first, last, end].
    """

    first: float
    last: float
    end: int
    begin: int = 0

    def __call__(self, step: int) -> float:
        """Give the value at a step, held beyond both ends."""
        along = (step - self.begin) / max(self.end - self.begin, 1)
        return self.first + (self.last - self.first) * min(max(along, 0.0), 1.0)


@dataclass(frozen=True)
class TimeRange:
    """The noise levels that are asked about, as shares of the training steps, over a run.

    Attributes:
        least: Of the smallest.
        most: Of the largest.
        training_steps: Of the model.
    """

    least: Ramp
    most: Ramp
    training_steps: int = 1000

    def bounds(self, step: int) -> tuple[int, int]:
        """Give the smallest and the largest training step at a step of the run, both included."""
        low, high = (int(self.training_steps * ramp(step)) for ramp in (self.least, self.most))
        return low, min(high, self.training_steps - 1)

    def draw(
        self, step: int, samples: int, rng: Generator, *, together: bool = False
    ) -> Int[Tensor, " samples"]:
        """Draw a training step for each sample, or (views of one object) one for all.

        Raises:
            ValueError: If the range is empty at this step.
        """
        low, high = self.bounds(step)
        if low > high:
            raise ValueError(f"no noise level lies between {low} and {high} at step {step}")
        drawn = torch.randint(low, high + 1, (1 if together else samples,), generator=rng)
        return drawn.expand(samples).clone()


def constant(value: float) -> Ramp:
    """Give a ramp that does not rise."""
    return Ramp(value, value, 1)


DREAMFUSION_TIMES = TimeRange(constant(0.02), constant(0.98))
"""Poole et al. 2023, section 3: all but the smallest and largest noise levels."""
ISOTROPIC3D_TIMES = TimeRange(Ramp(0.98, 0.02, 8000), Ramp(0.98, 0.5, 8000))
"""Liu et al., "Isotropic3D", 2024, and MVDream, for runs of 10,000 steps."""


def draw_noise(clean: Tensor, rng: Generator) -> Tensor:
    """Draw unit noise of a sample's shape, place and precision."""
    return randn(tuple(clean.shape), rng).to(clean)


def _weight(share: Tensor, weighting: Weighting) -> Tensor:
    if weighting == "sds":
        return 1 - share
    if weighting == "uniform":
        return torch.ones_like(share)
    return share.sqrt() * (1 - share)


def _deviation(sample: Tensor, frames: int) -> Tensor:
    """Standard deviation over all numbers of each object's views, one entry a view."""
    each = sample.unflatten(0, (-1, frames)).flatten(1).std(dim=1)
    return each.repeat_interleave(frames).reshape(-1, *[1] * (sample.ndim - 1))
