from typing import Any

import pytest
import torch
from solids_tiny import ball, look, orbit, photo
from torch import Generator

from roundview.camera import Cameras
from roundview.diffusion.orbit import FOV_DEG
from roundview.diffusion.solid_orbit import SolidOrbitModel
from roundview.image import Foreground
from roundview.views import Views


class Remembers:
    """A diffusion model that draws grey views."""

    network = torch.nn.Identity()

    def draw(self, subject: Foreground, cameras: Cameras, rng: Generator, **_: Any) -> Views:  # noqa: ANN401
        n, (h, w) = len(cameras), cameras.size_hw
        return Views(torch.full((n, h, w, 3), 0.5), torch.ones(n, h, w), cameras)

    def redraw(self, subject: Foreground, views: Views, rng: Generator, **_: Any) -> Views:  # noqa: ANN401
        return views


def test_an_orbit_of_the_solid_falls_back_on_diffusion() -> None:
    model = SolidOrbitModel(ball(), Remembers(), look)
    told = {"photo_elevation_deg": 20.0, "steps": 2}
    rng, cameras = Generator().manual_seed(0), orbit([0.0, 120.0], 32)
    drawn = model.draw(photo(), cameras, rng, **told)
    assert float(drawn.alpha.mean()) < 0.5
    nothing = Foreground(photo().rgb, torch.zeros(128, 128))
    assert float(model.draw(nothing, cameras, rng, **told).alpha.mean()) == 1.0
    far = Cameras.orbit([0.0], elevation_deg=0.0, radius=3.0, fov_deg=FOV_DEG, size_hw=(8, 8))
    with pytest.raises(ValueError, match="distance"):
        model.draw(photo(), far, rng, **told)
