"""Train the elevation head, and the features under it, on rendered views."""

from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Generator, Tensor, nn

from ..diffusion.elevation import ElevationNetwork, levels_deg
from ..models import Report, silent
from .depth import DepthSet, EstimatorTraining, draw
from .encoding import device_of
from .loop import LoopSettings, half_precision, train


@dataclass(frozen=True)
class ElevationTraining:
    """How the head is trained; chosen by us, none was swept.

    Attributes:
        batch: Pictures a step.
        spread_deg: Of the truth over the levels beside it: neighbours are nearly as good.
        drawn: How pictures are drawn; its weights say nothing here.
    """

    batch: int = 32
    spread_deg: float = 4.0
    drawn: EstimatorTraining = EstimatorTraining()  # noqa: RUF009  frozen


def train_elevation(
    network: ElevationNetwork,
    data: DepthSet,
    directory: Path,
    *,
    training: ElevationTraining = ElevationTraining(),
    settings: LoopSettings = LoopSettings(steps=4000, learning_rate=1e-3),  # noqa: B008  frozen
    resume: bool = False,
    report: Report = silent,
) -> ElevationNetwork:
    """Train a network where it is; of its features, what asks for gradients."""
    place = device_of(network.head)

    def loss(_: nn.Module, rng: Generator) -> Tensor:
        batch = draw(data, training.drawn, rng, count=training.batch)
        seen = network.features.maps(batch.rgb.to(place))[-1]
        with half_precision(place.type):
            said = network.head(seen)
        return elevation_loss(said.float(), batch.elevation_deg.to(place), training.spread_deg)

    train(network, loss, directory, settings=settings, resume=resume, report=report)
    return network.eval()


def elevation_loss(
    log_likely: Float[Tensor, "n levels"], elevation_deg: Float[Tensor, " n"], spread_deg: float
) -> Float[Tensor, ""]:
    """Give the cross-entropy to a bell about the truth."""
    apart = (levels_deg().to(elevation_deg) - elevation_deg[:, None]) / spread_deg
    wanted = (-0.5 * apart.square()).softmax(dim=1)
    return -(wanted * log_likely).sum(dim=1).mean()
