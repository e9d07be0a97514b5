"""Random cameras stand where their ranges say."""

import math
from dataclasses import replace

import pytest
import torch

from roundview.camera import Cameras, project
from roundview.diffusion.distill_cameras import (
    HIFI123_CAMERAS,
    ISOTROPIC3D_CAMERAS,
    THREESTUDIO_CAMERAS,
    RandomCameras,
    Range,
    at_resolution,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_hifi123s_cameras_are_where_the_paper_says() -> None:
    rng = seeded()
    cameras = [HIFI123_CAMERAS.draw(8, rng) for _ in range(50)]
    elevation = torch.cat([c.elevation_deg for c in cameras])
    assert -10 <= float(elevation.min()) < -5
    assert 55 < float(elevation.max()) <= 60.001
    for c in cameras:
        torch.testing.assert_close(c.origin.norm(dim=-1), torch.full((8,), 3.8))
        torch.testing.assert_close(c.focal_px, torch.full((8,), 32 / math.tan(math.radians(10))))


def test_cameras_look_at_the_subject_and_stand_upright() -> None:
    cameras = HIFI123_CAMERAS.draw(6, seeded(1))
    pixel, depth = project(torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.1, 0.0]]), cameras)
    torch.testing.assert_close(pixel[:, 0], torch.full((6, 2), 32.0), rtol=0, atol=1e-3)
    torch.testing.assert_close(depth[:, 0], torch.full((6,), 3.8))
    assert bool((pixel[:, 1, 1] < 32).all())
    r = cameras.world_from_camera[:, :3, :3]
    torch.testing.assert_close(r @ r.mT, torch.eye(3).expand_as(r), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(torch.linalg.det(r), torch.ones(6))


def test_they_are_those_of_an_orbit() -> None:
    cameras = HIFI123_CAMERAS.draw(5, seeded(2))
    orbit = Cameras.orbit(
        cameras.azimuth_deg.tolist(),
        elevation_deg=cameras.elevation_deg.tolist(),
        radius=3.8,
        fov_deg=20.0,
        size_hw=(64, 64),
    )
    torch.testing.assert_close(
        cameras.world_from_camera, orbit.world_from_camera, rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(cameras.focal_px, orbit.focal_px)


def test_azimuths_of_a_batch_are_spread() -> None:
    azimuth = (HIFI123_CAMERAS.draw(4, seeded(3)).azimuth_deg + 180) % 360
    assert [int(a // 90) for a in azimuth.sort().values.tolist()] == [0, 1, 2, 3]


def test_four_views_of_an_object_stand_at_equal_turns() -> None:
    cameras = ISOTROPIC3D_CAMERAS.draw(8, seeded(4))
    for at in (0, 4):
        four = cameras[list(range(at, at + 4))]
        turns = (four.azimuth_deg - four.azimuth_deg[0]) % 360
        torch.testing.assert_close(turns, torch.tensor([0.0, 90, 180, 270]), rtol=1e-3, atol=1e-2)
        torch.testing.assert_close(four.elevation_deg, four.elevation_deg[:1].expand(4))
        torch.testing.assert_close(four.focal_px, four.focal_px[:1].expand(4))
    # The subject stays as large: distance times tan(fov / 2) lies in 0.8 to 1.
    size = cameras.origin.norm(dim=-1) * 32 / cameras.focal_px
    assert float(size.min()) >= 0.8
    assert float(size.max()) <= 1.0001
    with pytest.raises(ValueError, match="multiple of 4, got 6"):
        ISOTROPIC3D_CAMERAS.draw(6, seeded())


def test_ranges_grow_from_the_photograph() -> None:
    growing = replace(HIFI123_CAMERAS, progressive_steps=200)
    first = growing.draw(4, seeded(5), photo_elevation_deg=15.0)
    torch.testing.assert_close(first.elevation_deg, torch.full((4,), 15.0), rtol=1e-4, atol=0)
    torch.testing.assert_close(
        (first.azimuth_deg + 180) % 360, torch.full((4,), 180.0), rtol=1e-4, atol=0
    )
    half = torch.cat([growing.draw(1, seeded(k), step=100).azimuth_deg for k in range(40)])
    signed = (half + 180) % 360 - 180
    assert float(signed.abs().max()) <= 90
    assert float(signed.abs().max()) > 70
    later = growing.draw(4, seeded(6), step=500)
    torch.testing.assert_close(
        later.world_from_camera, HIFI123_CAMERAS.draw(4, seeded(6)).world_from_camera
    )


def test_half_of_the_batches_are_even_over_the_sphere() -> None:
    cameras = replace(HIFI123_CAMERAS, elevation_deg=Range(0.0, 80.0))
    high = torch.cat([cameras.draw(50, seeded(k)).elevation_deg for k in range(60)]) > 40
    # Above 40 of 80 degrees: 0.5 in the angle, (sin 80 - sin 40) / sin 80 = 0.347 on the sphere.
    assert float(high.float().mean()) == pytest.approx((0.5 + 0.347) / 2, abs=0.03)


def test_jitter_moves_cameras_a_little() -> None:
    plain = replace(THREESTUDIO_CAMERAS, camera_jitter=0.0, target_jitter=0.0, up_jitter=0.0)
    shaken = THREESTUDIO_CAMERAS.draw(4, seeded(7)).world_from_camera
    steady = plain.draw(4, seeded(7)).world_from_camera
    shift = (shaken - steady)[:, :3, 3].abs()
    assert 0 < float(shift.max()) <= 0.1
    r = shaken[:, :3, :3]
    torch.testing.assert_close(r @ r.mT, torch.eye(3).expand_as(r), rtol=1e-5, atol=1e-5)


def test_the_same_seed_gives_the_same_cameras() -> None:
    first, second = (THREESTUDIO_CAMERAS.draw(3, seeded(8)) for _ in range(2))
    assert torch.equal(first.world_from_camera, second.world_from_camera)


def test_pictures_grow_by_a_schedule() -> None:
    schedule = ((0, 64), (5000, 256))
    sizes = [at_resolution(HIFI123_CAMERAS, step, schedule).size_px for step in (0, 4999, 5000)]
    assert sizes == [64, 64, 256]
    with pytest.raises(ValueError, match="says nothing of step 3"):
        at_resolution(HIFI123_CAMERAS, 3, ((5, 64),))


def test_ranges_that_fall_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must not fall, got 2\.0 to 1\.0"):
        RandomCameras(8, elevation_deg=Range(2.0, 1.0))
