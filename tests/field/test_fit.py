import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from roundview.camera import Cameras, rays
from roundview.field.fit import FieldFitSettings, fit_field, mesh_from_field, solid_grid
from roundview.field.grid import GridSettings
from roundview.field.radiance import RadianceSettings
from roundview.field.render import Field
from roundview.field.sdf import SdfField, SdfSettings
from roundview.mesh import Mesh, mesh_health
from roundview.surface.isosurface import mesh_from_density
from roundview.views import Views

GRID = GridSettings(4, 2, 12, 8, 32)
SDF = FieldFitSettings(SdfSettings(grid=GRID, cells=24, samples=64, hidden=32), rays=256)
RADIANCE = FieldFitSettings(RadianceSettings(grid=GRID, cells=16, hidden=32), rays=256)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ball_views(radius: float = 0.35, count: int = 8, size: int = 32) -> Views:
    """A ball whose colour is its normal, seen from all round."""
    cameras = Cameras.orbit(
        [360 * i / count for i in range(count)],
        elevation_deg=[(-35.0, 35.0)[i % 2] for i in range(count)],
        radius=1.5,
        fov_deg=49.13,
        size_hw=(size, size),
    )
    direction = torch.nn.functional.normalize(rays(cameras), dim=-1)
    origin = cameras.origin[:, None, None].expand_as(direction)
    along = (origin * direction).sum(dim=-1)
    room = along.square() - origin.square().sum(dim=-1) + radius**2
    place = origin + (-along - room.clamp(min=0).sqrt())[..., None] * direction
    rgb = torch.where((room > 0)[..., None], place / radius * 0.5 + 0.5, torch.ones(3))
    return Views(rgb.clamp(0, 1), (room > 0).float(), cameras)


def meshed(field: Field, resolution: int = 48) -> Mesh:
    def surface(grid: Tensor) -> Mesh:
        return mesh_from_density(grid, level=0.0, half_width=field.half_width)

    return mesh_from_field(field, surface, resolution=resolution)


def psnr(field: Field, views: Views) -> float:
    with torch.no_grad():
        drawn = field.render(views.cameras, normals=False)
    return float(-10 * torch.log10((drawn.rgb - views.rgb).square().mean()))


def test_signed_distance_of_a_ball_is_found() -> None:
    field = fit_field(ball_views(), steps=100, rng=rng(), settings=SDF)
    assert isinstance(field, SdfField)
    mesh = meshed(field)
    radius = mesh.vertices.norm(dim=1)
    # It began at 0.275. A pixel is 0.04 world units wide.
    assert float(radius.mean()) == pytest.approx(0.35, rel=0.02)
    assert float(radius.std()) < 0.01
    assert mesh_health(mesh).watertight
    assert float(field.inv_s) > 30
    assert psnr(field, ball_views()) > 25


def test_radiance_of_a_ball_is_found() -> None:
    views = ball_views()
    field = fit_field(views, steps=100, rng=rng(), settings=RADIANCE)
    assert psnr(field, views) > 19
    radius = meshed(field).vertices.norm(dim=1)
    assert float(radius.median()) == pytest.approx(0.35, rel=0.1)


def test_same_seed_gives_the_same_field() -> None:
    views = ball_views(size=16)
    settings = replace(SDF, rays=64, orientation_weight=0.1, sparsity_weight=0.1, opaque_weight=0.1)
    fields = [fit_field(views, steps=4, rng=rng(seed), settings=settings) for seed in (1, 1, 2)]
    tables = [field.grid.table for field in fields]
    assert tables[0].equal(tables[1])
    assert not tables[0].equal(tables[2])


def test_fitted_field_has_all_levels_and_full_annealing() -> None:
    field = fit_field(ball_views(size=16), steps=3, rng=rng(), settings=replace(SDF, rays=32))
    assert isinstance(field, SdfField)
    assert field.grid.active == GRID.levels
    assert field.anneal == 1.0
    assert not any(parameter.requires_grad for parameter in field.parameters())


def test_blurring_a_grid_takes_bumps_away_and_moves_no_plane() -> None:
    class Bumpy(SdfField):
        """Solid under a plane, but for a ripple of two nodes' length."""

        def solid(self, points: Tensor) -> Tensor:
            x, y, _ = points.unbind(dim=1)
            return 0.1 - y + 0.02 * torch.cos(x * (torch.pi * 20 / self.half_width))

    field = Bumpy(SDF.field, rng()) if isinstance(SDF.field, SdfSettings) else None
    assert field is not None
    step = 2 * field.half_width / 40
    rough, smooth = (solid_grid(field, resolution=41, blur=b * step) for b in (0.0, 1.5))
    assert float((rough[1:] - rough[:-1]).abs().max()) > 0.03
    inner = smooth[6:-6, 6:-6, 6:-6]
    assert float((inner[1:] - inner[:-1]).abs().max()) < 1e-4
    y = torch.linspace(-field.half_width, field.half_width, 41)[6:-6]
    torch.testing.assert_close(inner[0, :, 0], 0.1 - y, atol=1e-4, rtol=0)


class Notebook:
    """Keeps the last state that it was given."""

    found: dict[str, Any] | None = None

    def keep(self, state: dict[str, Any]) -> None:
        self.found = copy.deepcopy(state)


@pytest.mark.parametrize("settings", [SDF, RADIANCE], ids=["sdf", "radiance"])
def test_a_fit_that_was_stopped_goes_on_to_the_same_bytes(settings: FieldFitSettings) -> None:
    views, small = ball_views(size=16), replace(settings, rays=32)
    whole = fit_field(views, steps=70, rng=rng(), settings=small)
    notes = Notebook()

    def stop(done: float) -> None:
        if done > 60 / 70:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_field(views, steps=70, rng=rng(), settings=small, report=stop, kept=notes)
    assert notes.found is not None
    assert notes.found["step"] == 50
    seen: list[float] = []
    other = rng(5)  # The state brings the right one back.
    again = fit_field(views, steps=70, rng=other, settings=small, report=seen.append, kept=notes)
    assert seen[0] == 64 / 70
    for name, value in whole.state_dict().items():
        assert value.equal(again.state_dict()[name]), name
    with pytest.raises(ValueError, match="of step 50, but there are 20"):
        fit_field(views, steps=20, rng=rng(), settings=small, kept=notes)


def test_progress_ends_at_one() -> None:
    seen: list[float] = []
    settings = replace(SDF, rays=32)
    fit_field(ball_views(size=16), steps=17, rng=rng(), settings=settings, report=seen.append)
    assert seen == [0.0, 16 / 17, 1.0]


def test_view_of_no_weight_is_not_looked_at() -> None:
    views = ball_views(size=16)
    spoilt = replace(views, rgb=torch.cat([torch.rand(1, 16, 16, 3), views.rgb[1:]]))
    weights = torch.ones(len(views))
    weights[0] = 0
    settings = replace(SDF, rays=32)
    one, other = (
        fit_field(v, steps=3, rng=rng(), settings=settings, view_weights=weights)
        for v in (views, spoilt)
    )
    assert one.grid.table.equal(other.grid.table)


def test_nothing_is_sampled_outside_the_silhouettes() -> None:
    field = fit_field(ball_views(), steps=1, rng=rng(), settings=replace(SDF, rays=32))
    corner, middle = torch.tensor([[0.5, 0.5, 0.5], [0.0, 0.0, 0.0]])
    assert field.occupancy.contains(torch.stack([corner, middle])).tolist() == [False, True]


@pytest.mark.parametrize(
    ("steps", "weights", "message"),
    [(0, None, "one step"), (1, torch.ones(2), "2 entries"), (1, torch.zeros(8), "positive")],
)
def test_fit_without_sense_is_refused(steps: int, weights: Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_field(ball_views(size=16), steps=steps, rng=rng(), view_weights=weights)


def test_views_without_a_common_subject_are_refused() -> None:
    views = ball_views(size=16)
    alpha = torch.zeros_like(views.alpha)
    alpha[:, :, 0] = 1.0  # the left rim of each picture
    with pytest.raises(ValueError, match="nothing in common"):
        fit_field(replace(views, alpha=alpha), steps=1, rng=rng(), settings=SDF)
