"""Draw an orbit from the solid that one photograph suggests, and redraw it by diffusion."""

import logging
from collections.abc import Callable

from torch import Generator, nn

from ..camera import Cameras
from ..image import Foreground
from ..models import OrbitModel, Report, silent
from ..views import Views
from .orbit import check_cameras
from .shape_guess import ShapeModel, SolidGuess

Look = Callable[[SolidGuess, Cameras], Views]
"""Draws a solid; raises `ValueError` where nothing is solid."""

_log = logging.getLogger(__name__)


class SolidOrbitModel:
    """An `OrbitModel` whose views are of one solid, so that they agree.

    The first drawing is that of a `ShapeModel`. Where it finds nothing solid, and in every
    redrawing, the diffusion model draws.

    Args:
        shape: Guesses the solid.
        diffusion: Draws otherwise.
        look: Draws the solid.
    """

    def __init__(self, shape: ShapeModel, diffusion: OrbitModel, look: Look) -> None:
        self.shape = shape
        self.look = look
        self.diffusion = diffusion
        self.network: nn.Module | None = getattr(diffusion, "network", None)

    def draw(
        self,
        subject: Foreground,
        cameras: Cameras,
        rng: Generator,
        *,
        photo_elevation_deg: float,
        steps: int,
        report: Report = silent,
    ) -> Views:
        """Guess the solid and look at it; arguments as for `LatentOrbitModel.draw`.

        Args:
            subject: Square picture, framed as `frame_subject` does, seen from azimuth 0.
            cameras: Where to look from; distance and field of view must be the models'.
            rng: For the diffusion model, if it has to draw.
            photo_elevation_deg: Elevation the subject was seen from.
            steps: The same.
            report: Called with the fraction done.

        Raises:
            ValueError: If the cameras do not stand where the models were trained.
        """
        check_cameras(cameras)
        guess = self.shape(subject, elevation_deg=photo_elevation_deg)
        try:
            return self.look(guess, cameras)
        except ValueError as error:
            _log.warning("no solid was found behind the photograph (%s): drawn without", error)
        return self.diffusion.draw(
            subject,
            cameras,
            rng,
            photo_elevation_deg=photo_elevation_deg,
            steps=steps,
            report=report,
        )

    def redraw(
        self,
        subject: Foreground,
        views: Views,
        rng: Generator,
        *,
        photo_elevation_deg: float,
        noise_level: float,
        steps: int,
        report: Report = silent,
    ) -> Views:
        """Add noise to views and denoise them; see `LatentOrbitModel.redraw`."""
        return self.diffusion.redraw(
            subject,
            views,
            rng,
            photo_elevation_deg=photo_elevation_deg,
            noise_level=noise_level,
            steps=steps,
            report=report,
        )
