"""Train the refiner of a cascade of two Zero123s, which prompts itself with nearby views.

Chen et al., "Cascade-Zero123: One Image to Highly Consistent 3D with Self-Prompted Nearby Views",
2024, sections 3.2 and 3.3. The base draws the target and three nearby views from the input; the
refiner draws the target from all five. Only the refiner has a loss; the base follows it slowly.
Where paper and released trainer differ, both are there under a name.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, Protocol, TypeVar, runtime_checkable

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Generator, Tensor, nn

from ..diffusion.ddim import ddim, ddim_plan
from ..diffusion.known_views import NEARBY_DEG
from ..diffusion.noise import randn
from ..diffusion.zero123 import Zero123Net, pose_from_degrees
from ..models import Report, silent
from .batch import ViewSampler
from .encoding import Encoders, device_of, noisy_latents, random_steps, without
from .loop import LoopSettings, half_precision, train
from .zero123 import PairBatch, Zero123Training, dropped, pair_batch


@dataclass(frozen=True)
class CascadeTraining:
    """How the refiner is trained; numbers of the released trainer, which the paper leaves out.

    Attributes:
        batch: Pairs a step; 96 in all in the paper.
        base_steps: DDIM steps of the base.
        base_guidance: Its guidance.
        eta: Share of itself that the base keeps at each step, at most (equation 13).
        early: Let the base follow faster at first: (1 + n) / (10 + n) of itself after n steps.
        coarse_pose: Pose told with the coarse target: zeros ("code"), or the embedding of no
            motion, whose cosine is 1 ("paper").
        dropout: What is left out; the embedding only of the input and the coarse target.
    """

    batch: int = 32
    base_steps: int = 25
    base_guidance: float = 3.0
    eta: float = 0.9999
    early: bool = True
    coarse_pose: Literal["code", "paper"] = "code"
    dropout: Zero123Training = Zero123Training()  # noqa: RUF009  frozen


@runtime_checkable
class Following(Protocol):
    """How a base follows its refiner; see `CascadeTraining`."""

    @property
    def eta(self) -> float:
        """Share of itself that the base keeps at each step, at most."""
        ...

    @property
    def early(self) -> bool:
        """Whether it follows faster at first."""
        ...


Net = TypeVar("Net", bound=nn.Module)


class CascadePair(nn.Module, Generic[Net]):
    """A base that is not trained, and the refiner that is; both begin with the same weights."""

    steps: Tensor

    def __init__(self, base: Net, refiner: Net) -> None:
        super().__init__()
        self.base, self.refiner = base.requires_grad_(False), refiner
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def follow(self, training: Following) -> None:
        """Pull the base towards the refiner (equation 13); to be called before each step.

        The first call only counts: no step is done by then.
        """
        done = int(self.steps)
        if done > 0:
            keep = kept_share(done - 1, training)
            pairs = zip(self.base.parameters(), self.refiner.parameters(), strict=True)
            for base, refiner in pairs:
                base.lerp_(refiner.to(base), 1 - keep)
        self.steps += 1


def train_cascade(
    pair: CascadePair[Zero123Net],
    sampler: ViewSampler,
    encoders: Encoders,
    directory: Path,
    *,
    training: CascadeTraining = CascadeTraining(),
    settings: LoopSettings = LoopSettings(steps=170000, learning_rate=1e-4),  # noqa: B008  frozen
    resume: bool = False,
    report: Report = silent,
) -> CascadePair[Zero123Net]:
    """Train the refiner; the pair, base and count included, is what checkpoints hold.

    With gradients accumulated over several batches the base follows once a batch.
    """

    def loss(module: nn.Module, rng: Generator) -> Tensor:
        assert isinstance(module, CascadePair)
        module.follow(training)
        batch = pair_batch(sampler, training.batch, rng)
        return cascade_loss(module, encoders, batch, rng, training)

    train(pair, loss, directory, settings=settings, resume=resume, report=report)
    return pair


def cascade_loss(
    pair: CascadePair[Zero123Net],
    encoders: Encoders,
    batch: PairBatch,
    rng: Generator,
    training: CascadeTraining = CascadeTraining(),
) -> Float[Tensor, ""]:
    """Give the mean squared error of the noise that the refiner predicts."""
    device, count = device_of(pair), len(batch.pose)
    clean = encoders.scale * encoders.encode(batch.target, rng).to(device)
    beside = encoders.encode(batch.source, None).to(device)
    known = encoders.embed(batch.source).to(device)
    from_input, to_target = prompt_poses(batch.pose.to(device), training.coarse_pose)
    prompts = base_views(pair.base, beside, known, from_input, rng, training)
    drawn = encoders.embed(encoders.decode(prompts.flatten(0, 1) / encoders.scale)).to(device)
    embedding = torch.cat([known[:, None], drawn.unflatten(0, (count, -1))], dim=1)
    no_embedding, no_latents = dropped(count, rng, training.dropout)
    # The nearby views are never dropped.
    embedding = torch.cat(
        [without(no_embedding.to(device), embedding[:, :2]), embedding[:, 2:]], dim=1
    )
    noise = randn(tuple(clean.shape), rng).to(device)
    step = random_steps(count, rng).to(device)
    with half_precision(device.type):
        tokens = pair.refiner.tokens(embedding, to_target)
        x = noisy_latents(clean, noise, step)
        predicted = pair.refiner(x, step, without(no_latents.to(device), beside), tokens)
    return encoders.distance(predicted, noise).mean()


@torch.no_grad()
def base_views(
    base: Zero123Net,
    beside: Float[Tensor, "b c y x"],
    embedding: Float[Tensor, "b d"],
    pose: Float[Tensor, "b p 4"],
    rng: Generator,
    training: CascadeTraining,
) -> Float[Tensor, "b p c y x"]:
    """Draw the prompt views of every pair, each from the input alone; latents, scaled."""
    b, p = pose.shape[:2]
    known = beside.repeat_interleave(p, dim=0)
    start = randn(tuple(known.shape), rng).to(known)

    def predict(x: Tensor, t: Tensor) -> Tensor:
        with half_precision(x.device.type):
            told = embedding[:, None].expand(-1, p, -1)
            tokens = rearrange(base.tokens(told, pose), "b p d -> (b p) 1 d").contiguous()
            return base.guided(x, t, known, tokens, scale=training.base_guidance).float()

    return ddim(predict, start, ddim_plan(training.base_steps)).unflatten(0, (b, p))


def prompt_poses(
    pose: Float[Tensor, "b 4"], coarse_pose: Literal["code", "paper"]
) -> tuple[Float[Tensor, "b 4 4"], Float[Tensor, "b 5 4"]]:
    """Give the ways from the input to the prompt views, and from every known view to the target.

    Args:
        pose: From the input to the target.
        coarse_pose: As in `CascadeTraining`.

    Returns:
        Ways to [target, az + 45, az - 45, el + 30]; then ways to the target from
        [input, coarse target, az + 45, az - 45, el + 30], the order of the tokens.
    """
    nearby = pose_from_degrees(torch.tensor(NEARBY_DEG)).to(pose).expand(len(pose), -1, -1)
    back = _difference(pose[:, None], nearby)
    still = torch.zeros_like(pose)
    if coarse_pose == "paper":
        still[:, 2] = 1.0
    from_input = torch.cat([pose[:, None], nearby], dim=1)
    return from_input, torch.cat([pose[:, None], still[:, None], back], dim=1)


def kept_share(steps: int, training: Following) -> float:
    """Say how much of itself the base keeps after so many steps."""
    return min(training.eta, (1 + steps) / (10 + steps)) if training.early else training.eta


def _difference(
    to_target: Float[Tensor, "b 1 4"], to_view: Float[Tensor, "b p 4"]
) -> Float[Tensor, "b p 4"]:
    """Subtract ways from one place in spherical coordinates (appendix A.4)."""
    turn = torch.atan2(to_target[..., 1], to_target[..., 2]) - torch.atan2(
        to_view[..., 1], to_view[..., 2]
    )
    polar, radius = (to_target[..., k] - to_view[..., k] for k in (0, 3))
    return torch.stack([polar, turn.sin(), turn.cos(), radius], dim=-1)
