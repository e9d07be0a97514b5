from dataclasses import replace

import torch
from fakes import block
from torch import Generator

from roundview.camera import Cameras
from roundview.evaluate.protocol import NvsProtocol, render_truth
from roundview.evaluate.through_recipe import WatchedStages, recipe_pictures, unmoved
from roundview.gaussians import Gaussians
from roundview.image import Image
from roundview.mesh import Asset, centred
from roundview.models import StageRunner
from roundview.splat.render import render_gaussians

PROTOCOL = NvsProtocol(size_px=32, views=4)


def ball(opacity_logit: float) -> Gaussians:
    """One black Gaussian at the origin."""
    return Gaussians(
        torch.zeros(1, 3),
        torch.full((1, 3), -2.0),
        torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
        torch.tensor([opacity_logit]),
        torch.full((1, 1, 3), -1.8),
    )


def test_stages_keep_results_and_do_not_run_what_is_given() -> None:
    heard: list[float] = []
    stages = WatchedStages({"a": 1}, report=heard.append, expected=2)
    assert stages("a", lambda _: 1 // 0) == 1

    def work(report: object) -> int:
        assert callable(report)
        report(0.5)
        return 2

    assert stages("b", work) == 2
    assert stages.results == {"a": 1, "b": 2}
    assert heard == [0.5, 0.75, 1.0]


def test_an_asset_is_moved_back_to_where_it_was_fitted() -> None:
    before = block(0.3, 0.4, 0.2)
    after, scale, shift = centred(before)
    moved = unmoved(after, {"scale": scale, "shift": [float(x) for x in shift]})
    torch.testing.assert_close(moved.vertices, before.vertices, rtol=1e-5, atol=1e-6)


def test_each_fit_and_the_mesh_are_drawn_in_the_frame_of_the_fit() -> None:
    truth = render_truth(block(), PROTOCOL)
    seen: list[float] = []

    def recipe(photo: Image, rng: Generator, stages: StageRunner) -> Asset:
        del rng
        assert photo.alpha is not None
        subject = stages("matte", lambda _: 1 // 0)
        assert subject is truth.photo
        stages.note("photo_elevation_deg", 12.0)
        stages("fit", lambda _: ball(0.0))
        stages("redraw 1", lambda _: truth.views)
        last = stages("fit 1", lambda _: ball(4.0))
        # The asset is twice as large as what was fitted, and beside it.
        vertices = block().vertices * 2 + torch.tensor([3.0, 0.0, 0.0])
        stages.note("world_from_fitted", {"scale": 2.0, "shift": [3.0, 0.0, 0.0]})
        return Asset(replace(block(), vertices=vertices), last)

    def cameras_at(elevation_deg: float) -> Cameras:
        seen.append(elevation_deg)
        return PROTOCOL.cameras()

    pictures = recipe_pictures(
        recipe, truth.photo, cameras_at, torch.Generator(), supersample=3, expected_stages=4
    )
    assert list(pictures) == ["fit", "fit 1", "mesh"]
    assert seen == [12.0]
    expected = render_gaussians(ball(4.0), PROTOCOL.cameras()).rgb
    torch.testing.assert_close(pictures["fit 1"], expected)
    assert float(pictures["fit"][0, 16, 16, 0]) > float(pictures["fit 1"][0, 16, 16, 0]) + 0.2
    # Moved back, the mesh is the true one, up to the rounding of the truth to 8 bits.
    assert float((pictures["mesh"] - truth.views.rgb).abs().mean()) < 2e-3
