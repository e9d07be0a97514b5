"""The fit by discs: what it reaches on a made-up subject, and what it must leave alone."""

import math
from dataclasses import replace

import pytest
import torch

from roundview.camera import Cameras, concatenate_cameras
from roundview.gaussians import Gaussians
from roundview.rotation import SH_C0, quat_from_rotation, rotation_from_quat
from roundview.splat.disc_fit import DiscFit, fit_discs
from roundview.splat.discs import render_discs
from roundview.splat.fit import FitSettings
from roundview.splat.render import render_gaussians
from roundview.views import Views

SMALL = DiscFit(fit=FitSettings(points=400, max_gaussians=600))


def orbit(count: int, elevation_deg: float, size: int = 32, turn_deg: float = 0.0) -> Cameras:
    return Cameras.orbit(
        [turn_deg + 360 * i / count for i in range(count)],
        elevation_deg=elevation_deg,
        radius=1.5,
        fov_deg=40.0,
        size_hw=(size, size),
    )


def ball(count: int = 1500, radius: float = 0.35) -> Gaussians:
    """A sphere of opaque discs, coloured by where they are."""
    golden = math.pi * (3 - math.sqrt(5))
    index = torch.arange(count) + 0.5
    y = 1 - 2 * index / count
    ring = (1 - y**2).sqrt()
    outward = torch.stack(
        [ring * torch.cos(golden * index), y, ring * torch.sin(golden * index)], -1
    )
    sideways = torch.linalg.cross(torch.tensor([0.1, 0.2, 1.0]).expand_as(outward), outward)
    first = torch.nn.functional.normalize(sideways, dim=-1)
    turn = torch.stack([first, torch.linalg.cross(outward, first), outward], dim=-1)
    rgb = 0.5 + 0.3 * torch.sin(5 * outward)
    return Gaussians(
        radius * outward,
        torch.tensor([0.02, 0.02, 2e-5]).log().expand(count, 3),
        quat_from_rotation(turn),
        torch.full((count,), 4.0),
        ((rgb - 0.5) / SH_C0)[:, None],
    )


def pictures(cameras: Cameras) -> Views:
    seen = render_discs(ball(), cameras).views
    return Views(seen.rgb, seen.alpha, cameras)


def training_views() -> Views:
    return pictures(concatenate_cameras([orbit(6, -20.0), orbit(6, 30.0)]))


def normal_error_deg(gaussians: Gaussians, cameras: Cameras) -> float:
    """Mean angle between drawn normals and those of the sphere, where nearly all is covered."""
    true, ours = render_discs(ball(), cameras).views, render_discs(gaussians, cameras).views
    assert true.normal is not None
    assert ours.normal is not None
    seen = (true.alpha > 0.9) & (ours.alpha > 0.5)
    cosine = (true.normal * ours.normal).sum(dim=-1)[seen].clamp(-1, 1)
    return float(torch.rad2deg(torch.arccos(cosine)).mean())


def test_discs_come_to_look_like_the_views_and_lie_in_the_surface() -> None:
    views, held = training_views(), pictures(orbit(4, 10.0, turn_deg=20.0))
    rng = torch.Generator().manual_seed(0)
    fitted = fit_discs(views, steps=80, rng=rng, settings=SMALL)
    seen = render_discs(fitted, held.cameras).views
    mse = float((seen.rgb - held.rgb).square().mean())
    assert -10 * math.log10(mse) > 23
    assert normal_error_deg(fitted, held.cameras) < 14
    assert len(fitted) <= 600


def test_the_added_terms_straighten_the_normals() -> None:
    views, cameras = training_views(), orbit(4, 10.0, turn_deg=20.0)
    true = ball()
    rng = torch.Generator().manual_seed(0)
    tilt = 0.3 * torch.randn(true.quat_wxyz.shape, generator=rng)
    start = Gaussians(
        true.centre, true.log_scale, true.quat_wxyz + tilt, true.opacity_logit, true.sh
    )
    fit = replace(SMALL.fit, max_gaussians=1500)
    errors = [normal_error_deg(start, cameras)]
    for weight in (0.0, 0.5):
        settings = replace(SMALL, fit=fit, normal_weight=weight, normal_from=0.0)
        rng = torch.Generator().manual_seed(0)
        fitted = fit_discs(views, steps=30, rng=rng, start=start, settings=settings)
        errors.append(normal_error_deg(fitted, cameras))
    before, without, straightened = errors
    assert straightened < 0.8 * without
    assert straightened < 0.8 * before


def test_what_comes_out_is_flat_and_looks_alike_as_gaussians() -> None:
    views = training_views()
    rng = torch.Generator().manual_seed(0)
    fitted = fit_discs(views, steps=40, rng=rng, settings=SMALL)
    scale = fitted.scale
    longest = scale[:, :2].amax(dim=1)
    torch.testing.assert_close(scale[:, 2], SMALL.thickness * longest, rtol=1e-4, atol=0)
    assert bool((longest <= SMALL.fit.max_aspect * scale[:, :2].amin(dim=1) * 1.001).all())
    assert not fitted.centre.requires_grad
    flat = render_discs(fitted, views.cameras).views
    solid = render_gaussians(fitted, views.cameras)
    assert float((flat.rgb - solid.rgb).abs().mean()) < 0.03


def test_the_same_seed_gives_the_same_discs() -> None:
    views = training_views()
    one, two = (
        fit_discs(views, steps=12, rng=torch.Generator().manual_seed(3), settings=SMALL)
        for _ in range(2)
    )
    assert torch.equal(one.centre, two.centre)
    assert torch.equal(one.quat_wxyz, two.quat_wxyz)


def test_the_fit_begins_with_discs_that_face_outwards() -> None:
    views = training_views()
    rng = torch.Generator().manual_seed(0)
    still = replace(SMALL.fit, centre_rate=(1e-9, 1e-9), turn_rate=0.0)
    begun = fit_discs(views, steps=1, rng=rng, settings=replace(SMALL, fit=still))
    normal = rotation_from_quat(begun.quat_wxyz)[:, :, 2]
    outward = torch.nn.functional.normalize(begun.centre, dim=-1)
    # A hull of cells, seen from twelve sides: rough, but far from the 0.5 of random directions.
    assert float((normal * outward).sum(dim=-1).abs().mean()) > 0.9


def test_a_start_is_gone_on_from() -> None:
    views = training_views()
    rng = torch.Generator().manual_seed(0)
    settings = replace(SMALL, fit=replace(SMALL.fit, max_gaussians=1500))
    before = ball()
    fitted = fit_discs(views, steps=5, rng=rng, start=before, settings=settings)
    torch.testing.assert_close(fitted.centre, before.centre, rtol=0, atol=0.05)


def test_the_share_done_is_reported() -> None:
    told: list[float] = []
    rng = torch.Generator().manual_seed(0)
    fit_discs(training_views(), steps=11, rng=rng, settings=SMALL, report=told.append)
    assert told == [0.0, 10 / 11, 1.0]


@pytest.mark.parametrize(("views", "steps"), [(0, 5), (2, 0)])
def test_a_fit_of_nothing_is_refused(views: int, steps: int) -> None:
    some = training_views()[:views]
    with pytest.raises(ValueError, match="at least one view and one step"):
        fit_discs(some, steps=steps, rng=torch.Generator(), settings=SMALL)
