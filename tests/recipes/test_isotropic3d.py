"""The method follows its model alone: upright, coloured, and blind to the photograph's pixels."""

from dataclasses import replace

import pytest
import torch
from fakes import block, photo_of
from isotropic_tiny import TINY, tiny_models
from torch import Generator

from roundview.diffusion.multiview import KnownLevels
from roundview.image import Image
from roundview.mesh import Asset
from roundview.models import PlainStages
from roundview.recipes.isotropic3d import (
    DRAFT,
    QUALITIES,
    SMALL_CAMERAS,
    STANDARD,
    Isotropic3d,
    as_in_paper,
    asking,
    distilling,
    isotropic3d,
    novel_views,
)


def made(photo: Image, settings: Isotropic3d = TINY) -> Asset:
    return isotropic3d(photo, tiny_models(), Generator().manual_seed(1), settings)


@pytest.fixture(scope="module")
def photo() -> Image:
    return photo_of(block(), size_px=96)


@pytest.fixture(scope="module")
def asset(photo: Image) -> Asset:
    return made(photo)


def test_the_asset_stands_upright_as_the_model_knows_it(asset: Asset) -> None:
    low, high = asset.mesh.vertices.amin(dim=0), asset.mesh.vertices.amax(dim=0)
    width, height, depth = (high - low).tolist()
    assert height == pytest.approx(1.0, abs=1e-4)
    assert width < 0.85
    assert depth < 0.85


def test_its_colours_are_on_their_sides(asset: Asset) -> None:
    assert asset.views is not None
    ring = asset.views[[1, 7]]  # From the front and from the back, after the photograph.
    front, back = (ring.rgb[k, 12:20, 14:18].mean(dim=(0, 1)) for k in range(2))
    assert float(front[0]) > float(front[2]) + 0.2
    assert float(back[2]) > float(back[0]) + 0.2


def test_no_pixel_of_the_photograph_counts(photo: Image, asset: Asset) -> None:
    other = made(Image(1 - photo.rgb, photo.alpha))
    assert torch.equal(other.mesh.vertices, asset.mesh.vertices)
    assert other.mesh.texture is not None
    assert asset.mesh.texture is not None
    assert torch.equal(other.mesh.texture.rgb, asset.mesh.texture.rgb)
    # It is shown first among the views, and nothing was made of it.
    assert asset.views is not None
    assert other.views is not None
    seen = asset.views.alpha[0] > 0.99
    inverted = 1 - asset.views.rgb[0][seen]
    torch.testing.assert_close(other.views.rgb[0][seen], inverted, atol=0.02, rtol=0)
    assert torch.equal(other.views.rgb[1:], asset.views.rgb[1:])


def test_the_photographs_side_is_noted(photo: Image) -> None:
    stage = PlainStages()
    settings = replace(TINY, steps=4, photo_elevation_deg=25.0)
    isotropic3d(photo, tiny_models(), Generator().manual_seed(1), settings, stage)
    assert stage.notes["photo_elevation_deg"] == 25.0
    assert "world_from_fitted" in stage.notes


def test_views_are_drawn_from_all_round(photo: Image) -> None:
    views = novel_views(photo, tiny_models(), Generator().manual_seed(1), TINY, PlainStages())
    assert views.rgb.shape == (8, 16, 16, 3)
    middle = views.rgb[[0, 4], 6:10, 7:9].mean(dim=(1, 2))
    assert float(middle[0, 0]) > 0.6 > float(middle[1, 0])  # Red in front, blue behind.
    assert float(middle[1, 2]) > 0.6


def test_noise_levels_sink_and_are_one_for_all_views() -> None:
    settings = replace(DRAFT, steps=1000)
    times = asking(settings).times
    assert times.bounds(0) == (980, 980)
    assert times.bounds(800) == times.bounds(999) == (20, 500)


def test_a_model_that_knows_some_noise_levels_only_is_asked_at_those() -> None:
    levels = KnownLevels(shape=(0.85, 0.98), detail=(0.02, 0.3))
    times = asking(replace(DRAFT, steps=1000), levels).times
    assert times.bounds(0) == times.bounds(799) == (850, 980)
    assert times.bounds(800) == times.bounds(999) == (20, 300)


def test_weights_and_sizes_follow_the_run() -> None:
    run = distilling(replace(STANDARD, steps=1000, px=(64, 256), views=(8, 4)), SMALL_CAMERAS)
    assert run.sizes == ((0, 64, 8), (500, 256, 4))
    assert (run.order.orientation(0), run.order.orientation(500)) == (10, 1000)
    assert run.shading is not None
    assert run.shading.begin == 500
    assert run.photo.due(0) is False  # Nothing looks at the photograph.
    assert distilling(replace(DRAFT, shading_from=2.0), SMALL_CAMERAS).shading is None


def test_the_paper_differs_from_its_code() -> None:
    paper = as_in_paper(DRAFT)
    assert (paper.gradient, paper.network_rate) == ("sds", 0.01)
    assert paper.steps == DRAFT.steps


def test_no_quality_compares_with_the_photograph() -> None:
    for settings in QUALITIES.values():
        assert not distilling(settings, SMALL_CAMERAS).photo.due(0)
