from dataclasses import replace

import pytest
import torch
from fakes import KnownElevation, block, photo_of
from torch import Generator, Tensor

from roundview.camera import Cameras
from roundview.diffusion.guide import Guided
from roundview.diffusion.guide_models import cosine_shares
from roundview.diffusion.view_guide import ViewGuide
from roundview.mesh import Mesh, bounds
from roundview.models import PlainStages, Report, silent
from roundview.recipes.cascade_zero123 import (
    DRAFT,
    HIGH,
    QUALITIES,
    STANDARD,
    CascadeZero123,
    CascadeZero123Models,
    cascade_zero123,
    distillation,
    novel_views,
    prompt_cameras,
)
from roundview.segment import matte_from_alpha
from roundview.stages import Stages, seeded
from roundview.surface.raster import render_mesh
from roundview.views import Views

TINY = replace(
    DRAFT,
    ring_views=8,
    more_rings=((60.0, 3), (-25.0, 2)),
    size_px=48,
    photo_px=96,
    fit_steps=90,
    mesh_resolution=48,
    faces=1500,
    texture_size=128,
    sds_steps=4,
    sds_px=(16, 16),
    sds_views=1,
)


class KnowingViews:
    """Draws the true views of a mesh, and remembers what it was told."""

    size_px = 32

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.calls: list[tuple[Views, Cameras, int, Views | None]] = []

    def draw(
        self,
        known: Views,
        cameras: Cameras,
        rng: Generator,
        *,
        steps: int,
        coarse: Views | None = None,
        report: Report = silent,
    ) -> Views:
        self.calls.append((known, cameras, steps, coarse))
        report(1.0)
        return render_mesh(self.mesh, cameras)


class Guide:
    """Wants every picture to be grey."""

    shares = cosine_shares()
    size_px = 16
    together = 1

    def encode(self, rgba: Tensor) -> Tensor:
        return rgba

    def told(self, cameras: Cameras) -> Guided[None]:
        del cameras
        return Guided(lambda x, _, __: x - 0.5, None, None, 1.0)


def models() -> tuple[CascadeZero123Models, KnowingViews, KnowingViews, list[tuple[object, Views]]]:
    base, refiner = KnowingViews(block()), KnowingViews(block())
    guided: list[tuple[object, Views]] = []

    def guide(model: object, known: Views) -> ViewGuide:
        guided.append((model, known))
        return Guide()

    made = CascadeZero123Models(
        matte_from_alpha, KnownElevation(10.0), base, refiner, guide, steps=(3, 7)
    )
    return made, base, refiner, guided


def drawn(settings: CascadeZero123 = TINY) -> tuple[Views, KnowingViews, KnowingViews]:
    made, base, refiner, _ = models()
    views = novel_views(
        photo_of(block()), made, seeded(0), settings, PlainStages(), azimuth_deg=[60.0, 200.0]
    )
    return views, base, refiner


def test_a_photo_becomes_an_asset_of_size_one() -> None:
    made, base, refiner, _ = models()
    stages = Stages(seeded(0))
    asset = cascade_zero123(photo_of(block()), made, stages.rng, TINY, stages)
    low, high = bounds(asset.mesh.vertices)
    assert float((high - low).max()) == pytest.approx(1.0, abs=1e-5)
    # Wide tolerance: see test_im3d, the hull of a plain block bulges between views.
    torch.testing.assert_close(high - low, torch.tensor([0.6, 1.0, 0.5]), rtol=0, atol=0.15)
    assert list(stages.seconds)[:5] == ["matte", "elevation", "prompts", "draw", "fit"]
    assert [len(call[1]) for call in base.calls] == [3 + 13]
    assert [len(call[1]) for call in refiner.calls] == [13]


def test_the_base_draws_all_prompts_in_one_batch_from_the_photo_alone() -> None:
    _, base, _ = drawn()
    ((known, cameras, steps, coarse),) = base.calls
    assert (len(known), steps, coarse) == (1, 3, None)
    wanted = torch.tensor([45.0, 315.0, 0.0, 60.0, 200.0])
    torch.testing.assert_close(cameras.azimuth_deg, wanted, atol=1e-3, rtol=0)
    heights = torch.tensor([10.0, 10.0, 40.0, 10.0, 10.0])
    torch.testing.assert_close(cameras.elevation_deg, heights, atol=1e-3, rtol=0)
    assert cameras.size_hw == (32, 32)


def test_the_refiner_is_told_photo_nearby_views_and_drafts() -> None:
    views, _, refiner = drawn()
    ((known, cameras, steps, coarse),) = refiner.calls
    assert steps == 7
    assert coarse is not None
    torch.testing.assert_close(
        known.cameras.azimuth_deg, torch.tensor([0.0, 45.0, 315.0, 0.0]), atol=1e-3, rtol=0
    )
    torch.testing.assert_close(coarse.cameras.origin, cameras.origin)
    assert coarse.cameras.size_hw == (32, 32)
    assert views.cameras.size_hw == (48, 48)


def test_the_settings_of_table_3_change_who_is_told_what() -> None:
    _, base, refiner = drawn(replace(TINY, cascade="none"))
    assert [len(call[0]) for call in base.calls] == [1]
    assert refiner.calls == []
    _, base, refiner = drawn(replace(TINY, cascade="frozen"))
    assert [len(call[0]) for call in base.calls] == [1, 4]
    assert refiner.calls == []
    _, base, refiner = drawn(replace(TINY, coarse_target=False))
    assert [len(call[1]) for call in base.calls] == [3]
    assert refiner.calls[0][3] is None
    _, _, refiner = drawn(replace(TINY, prompts="more"))
    assert len(refiner.calls[0][0]) == 9
    _, _, refiner = drawn(replace(TINY, prompts="larger"))
    azimuth_deg = refiner.calls[0][0].cameras.azimuth_deg
    wanted = torch.tensor([0.0, 90.0, 180.0, 270.0])
    torch.testing.assert_close(azimuth_deg, wanted, atol=1e-3, rtol=0)


def test_random_prompts_come_from_the_generator() -> None:
    camera = Cameras.orbit([0.0], elevation_deg=10.0, radius=1.5, fov_deg=49.13, size_hw=(8, 8))
    settings = replace(TINY, prompts="random")
    first, again, other = (prompt_cameras(camera, settings, seeded(k)) for k in (1, 1, 2))
    assert torch.equal(first.origin, again.origin)
    assert not torch.allclose(first.origin, other.origin)
    assert bool((first.elevation_deg - 10.0).abs().max() <= 30.0)


@pytest.mark.parametrize("elevation_deg", [-70.0, 60.0, 84.0])
def test_prompts_stop_before_the_pole(elevation_deg: float) -> None:
    camera = Cameras.orbit(
        [0.0], elevation_deg=elevation_deg, radius=1.5, fov_deg=49.13, size_hw=(8, 8)
    )
    for prompts in ("nearby", "more"):
        found = prompt_cameras(camera, replace(TINY, prompts=prompts), seeded(0))
        assert float(found.elevation_deg.abs().max()) < 85.1


@pytest.mark.parametrize(("cascade", "told"), [("refiner", 4), ("none", 1)])
def test_distillation_knows_the_prompts_drawn_once(cascade: str, told: int) -> None:
    made, base, refiner, guided = models()
    settings = replace(TINY, way="sds", cascade=cascade)
    cascade_zero123(photo_of(block()), made, seeded(0), settings)
    ((model, known),) = guided
    assert model is (refiner if cascade == "refiner" else base)
    assert len(known) == told
    assert sum(len(call[1]) for call in base.calls) == told - 1


def test_qualities_have_names_and_distillation_its_preset() -> None:
    assert QUALITIES == {"draft": DRAFT, "standard": STANDARD, "high": HIGH}
    preset = distillation(STANDARD)
    assert (preset.steps, preset.photo.rgb, preset.photo.mask) == (600, 500.0, 50.0)
    assert preset.sizes == ((0, 32, 4), (200, 64, 4))
