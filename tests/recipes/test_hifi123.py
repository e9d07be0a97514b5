"""The recipe from photo to asset with untrained models, and the parts that need no model."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from fakes import block, photo_of
from hifi_tiny import RGNV, SIDE, TINY, Dome, tiny_enhancer, tiny_models

from roundview.diffusion.depth2image import PAPER, PAPER_RGSD, Prompts
from roundview.diffusion.small_depth_image import ImageGuide
from roundview.field.grid import GridSettings
from roundview.field.radiance import RadianceField, RadianceSettings
from roundview.image import Foreground
from roundview.models import Kept, NothingKept, PlainStages, Report, Value
from roundview.recipes.distilling import distilled_field
from roundview.recipes.enhancing import Remembered, remembered
from roundview.recipes.framing import photo_view
from roundview.recipes.hifi123 import (
    HIGH,
    QUALITIES,
    STANDARD,
    coarse_stage,
    hifi123,
    novel_views,
    rgsd_colours,
    with_estimates,
)
from roundview.recipes.hifi123_refine import Surface, refine_colours
from roundview.views import Views

TINY_FIELD = RadianceSettings(grid=GridSettings(2, 2, 8, 4, 8), hidden=8, samples=32)


class Watched(PlainStages):
    """Remembers the stages' names and counts the pictures shown."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.shown = 0

    def __call__(self, name: str, work: Callable[[Report], Value]) -> Value:
        self.names.append(name)
        return super().__call__(name, work)

    def long(self, name: str, work: Callable[[Report, Kept], Value]) -> Value:
        self.names.append(name)
        return super().long(name, work)

    def show(self, rgb: torch.Tensor) -> None:
        assert rgb.ndim == 3
        self.shown += 1


def test_a_photo_becomes_an_asset() -> None:
    stage = Watched()
    asset = hifi123(photo_of(block()), tiny_models(), torch.Generator().manual_seed(0), TINY, stage)
    assert asset.mesh.texture is not None
    assert asset.gaussians is not None
    assert asset.views is not None
    assert asset.views.depth is not None
    box = asset.mesh.vertices.amax(dim=0) - asset.mesh.vertices.amin(dim=0)
    assert float(box.max()) == pytest.approx(1, abs=1e-4)
    long = ["coarse", "tetrahedra", "fixed views", "refine"]
    at = stage.names.index("coarse")
    assert stage.names[at : at + 4] == long
    assert stage.shown >= 2
    assert stage.notes["photo_elevation_deg"] == 10.0


class Saved(PlainStages):
    """Keeps the result of each stage, and gives it back the next time."""

    def __init__(self) -> None:
        super().__init__()
        self.results: dict[str, Any] = {}

    def __call__(self, name: str, work: Callable[[Report], Any]) -> Any:  # noqa: ANN401  as the protocol
        if name not in self.results:
            self.results[name] = super().__call__(name, work)
        return self.results[name]

    def long(self, name: str, work: Callable[[Report, Kept], Any]) -> Any:  # noqa: ANN401  as the protocol
        return self(name, lambda report: work(report, NothingKept()))


def test_the_photograph_is_inverted_once_and_not_again_for_what_is_finished(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def counted(*told: Any) -> Remembered:  # noqa: ANN401  handed on
        asked.append(told[-1])
        return remembered(*told)

    monkeypatch.setattr("roundview.recipes.hifi123.remembered", counted)
    subject = Foreground(torch.full((SIDE, SIDE, 3), 0.6), torch.ones(SIDE, SIDE))
    front = photo_view(subject, elevation_deg=10.0, distance=1.5, fov_deg=49.13)
    field = TINY_FIELD.build(torch.Generator().manual_seed(0))
    surface, stage = Surface(field, block()), Saved()

    def refined() -> torch.Tensor:
        rng = torch.Generator().manual_seed(0)
        colours = rgsd_colours(surface, front, subject, tiny_enhancer(), rng, TINY, stage=stage)
        return colours.grid.table

    first = refined()
    assert asked == [TINY.rgsd]
    assert torch.equal(refined(), first)
    assert len(asked) == 1
    del stage.results["refine"]  # Killed in its middle: the fixed views are there already.
    refined()
    assert len(asked) == 2


def test_a_model_that_asks_for_a_size_has_the_refine_stage_rendered_at_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[int] = []

    def watched(*told: Any, **named: Any) -> RadianceField:  # noqa: ANN401  handed on
        sizes.extend([told[3].size_hw[0], told[5].size_px])
        return refine_colours(*told, **named)

    monkeypatch.setattr("roundview.recipes.hifi123.refine_colours", watched)
    subject = Foreground(torch.full((SIDE, SIDE, 3), 0.6), torch.ones(SIDE, SIDE))
    front = photo_view(subject, elevation_deg=10.0, distance=1.5, fov_deg=49.13)
    surface = Surface(TINY_FIELD.build(torch.Generator().manual_seed(0)), block())
    for settings in (TINY, replace(TINY, refine_px=24)):
        rng = torch.Generator().manual_seed(0)
        stage = PlainStages()
        rgsd_colours(surface, front, subject, tiny_enhancer(), rng, settings, stage=stage)
    assert sizes == [32, 32, 24, 24]


def test_a_2d_prior_of_another_kind_takes_the_enhancer_s_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[object] = []

    def watched(photo: Views, guides: list[Any], *told: Any, **named: Any) -> RadianceField:  # noqa: ANN401
        asked.append(guides[1][0])
        return distilled_field(photo, guides, *told, **named)

    monkeypatch.setattr("roundview.recipes.hifi123.distilled_field", watched)
    models = tiny_models()
    token = torch.ones(1, 1, 6)
    other = ImageGuide(models.enhancer.models, Prompts(token, token, token), scale=1.0)
    told = replace(models, image_prior=other)
    hifi123(photo_of(block()), told, torch.Generator().manual_seed(0), TINY)
    assert asked == [other]


def test_views_are_drawn_and_then_enhanced() -> None:
    stage = Watched()
    views = novel_views(
        photo_of(block()),
        tiny_models(),
        torch.Generator().manual_seed(0),
        TINY,
        stage,
        azimuth_deg=[0.0, 90.0, 200.0],
        elevation_deg=5.0,
    )
    assert stage.names[-2:] == ["draw", "enhance"]
    torch.testing.assert_close(views.cameras.elevation_deg, torch.full((3,), 5.0))
    assert views.rgb.shape == (3, 32, 32, 3)


def test_the_papers_numbers_are_the_settings() -> None:
    assert STANDARD.rgnv == PAPER
    assert STANDARD.rgsd == PAPER_RGSD
    assert (HIGH.coarse_steps, HIGH.coarse_px, HIGH.tet_cells) == (3000, (64, 128), 128)
    assert HIGH.refining.steps == 1000
    assert set(QUALITIES) == {"draft", "standard", "high"}
    assert RGNV.kept_steps < RGNV.steps


def test_the_coarse_stage_grows_in_size_and_order() -> None:
    coarse = coarse_stage(STANDARD)
    assert [size for _, size, _ in coarse.sizes] == [32, 64]
    assert coarse.order.sparsity(0) == pytest.approx(0.1)
    assert coarse.order.sparsity(STANDARD.coarse_steps - 1) == pytest.approx(10.0)
    assert coarse.photo.rgb == 1000.0


def test_normals_are_smoothed_as_dreamcraft3d_does_only_if_asked() -> None:
    plain = coarse_stage(STANDARD).order
    assert (plain.normal_map(0), plain.normal_field(0)) == (0, 0)
    smooth = coarse_stage(replace(STANDARD, bends=(1.0, 5.0, 1.0))).order
    last = STANDARD.coarse_steps - 1
    assert (smooth.normal_map(0), smooth.normal_map(last)) == (1, 1)
    assert (smooth.normal_field(0), smooth.normal_field(last)) == (5, 1)


def test_normals_are_turned_into_the_world_and_depth_is_near_where_inverse_depth_is_large() -> None:
    subject = Foreground(torch.ones(8, 8, 3), torch.ones(8, 8))
    front = photo_view(subject, elevation_deg=30.0, distance=1.5, fov_deg=49.0)
    told = with_estimates(front, Dome())
    assert told.depth is not None
    assert told.normal is not None
    assert float(told.depth[0, 4, 4]) < float(told.depth[0, 0, 0])
    # Straight at a camera that stands 30 degrees up, before +Z.
    wanted = torch.tensor([0.0, 0.5, 3**0.5 / 2])
    torch.testing.assert_close(told.normal[0, 4, 4], wanted, atol=1e-5, rtol=0)
