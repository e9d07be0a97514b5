"""Discs: what must be seen, worked by hand, against gsplat, and its gradient."""

import math
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

import roundview.splat.discs as discs
from roundview.camera import Cameras, lift
from roundview.gaussians import Gaussians
from roundview.rotation import SH_C0, quat_from_rotation, rotation_from_quat
from roundview.splat.discs import render_discs, unit_or_zero

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
Backend = Literal["reference", "numba"]
BACKENDS = pytest.mark.parametrize("backend", ["reference", "numba"])
BLACK = (0.0, 0.0, 0.0)
WHITE = (1.0, 1.0, 1.0)
ROOT_HALF = math.sqrt(0.5)


def front(size: int = 5) -> Cameras:
    """One camera at +Z, 2 from the origin; focal length is half the height in pixels."""
    return Cameras.orbit([0.0], elevation_deg=0.0, radius=2.0, fov_deg=90.0, size_hw=(size, size))


def cloud(
    centre: list[tuple[float, float, float]],
    opacity: list[float],
    scale: tuple[float, float, float] = (0.8, 0.8, 5.0),
    quat: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0),
    rgb: tuple[float, float, float] = WHITE,
) -> Gaussians:
    """Discs of one shape and colour; unturned they face +Z. The third scale must not count."""
    count = len(centre)
    return Gaussians(
        torch.tensor(centre),
        torch.tensor(scale).log().repeat(count, 1),
        torch.tensor(quat).repeat(count, 1),
        torch.logit(torch.tensor(opacity)),
        ((torch.tensor(rgb) - 0.5) / SH_C0).repeat(count, 1, 1),
    )


@BACKENDS
def test_a_disc_that_faces_the_camera_is_a_round_gaussian(backend: Backend) -> None:
    one = cloud([(0.0, 0.0, 0.0)], [0.8], rgb=(0.2, 0.4, 1.0))
    seen = render_discs(one, front(), background=(1.0, 0.0, 0.5), backend=backend)
    # Focal length 2.5 px, distance 2: a deviation of 0.8 is 1 px. Nothing is added to it.
    alpha = [0.8 * math.exp(-0.5 * d**2) for d in (0, 1, 2)]
    expected = torch.tensor([alpha[2], alpha[1], alpha[0], alpha[1], alpha[2]])
    torch.testing.assert_close(seen.views.alpha[0, 2], expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(seen.views.alpha[0, :, 2], expected, rtol=1e-5, atol=1e-6)
    middle = torch.tensor([0.8 * 0.2 + 0.2 * 1.0, 0.8 * 0.4, 0.8 * 1.0 + 0.2 * 0.5])
    torch.testing.assert_close(seen.views.rgb[0, 2, 2], middle, rtol=1e-5, atol=1e-6)
    assert seen.views.depth is not None
    assert seen.views.normal is not None
    torch.testing.assert_close(seen.views.depth[0, 2], torch.full((5,), 2.0))
    torch.testing.assert_close(seen.median_depth[0, 2], torch.full((5,), 2.0))
    torch.testing.assert_close(seen.views.normal[0, 2], torch.tensor([0.0, 0.0, 1.0]).expand(5, 3))
    assert seen.distortion.max() < 1e-6


@BACKENDS
def test_depth_is_that_of_the_plane_where_the_ray_meets_it(backend: Backend) -> None:
    # Turned by 45 degrees about Y, the disc's first axis runs along (1, 0, -1).
    turned = (math.cos(math.pi / 8), 0.0, math.sin(math.pi / 8), 0.0)
    one = cloud([(0.1, 0.0, 0.0)], [0.9], (2.0, 2.0, 1.0), turned)
    cameras = front()
    seen = render_discs(one, cameras, backend=backend)
    assert seen.views.depth is not None
    assert seen.views.normal is not None
    points = lift(seen.views.depth, cameras)[0, 2, 1:4]
    plane = torch.tensor([ROOT_HALF, 0.0, ROOT_HALF])
    torch.testing.assert_close(points @ plane, torch.full((3,), 0.1 * ROOT_HALF))
    torch.testing.assert_close(seen.views.normal[0, 2, 1:4], plane.expand(3, 3))


@BACKENDS
def test_normals_are_turned_towards_the_camera(backend: Backend) -> None:
    upside_down = cloud([(0.0, 0.0, 0.0)], [0.8], quat=(0.0, 1.0, 0.0, 0.0))
    seen = render_discs(upside_down, front(), backend=backend)
    assert seen.views.normal is not None
    torch.testing.assert_close(seen.views.normal[0, 2, 2], torch.tensor([0.0, 0.0, 1.0]))


@BACKENDS
def test_a_disc_seen_from_the_edge_shows_by_its_blur(backend: Backend) -> None:
    # Turned by 90 degrees about Y: the camera sees the edge. The screen Gaussian has a deviation
    # of sqrt(1/2) px, so its power is the squared distance.
    edge_on = cloud([(0.0, 0.0, 0.0)], [0.8], (0.2, 0.2, 1.0), (ROOT_HALF, 0.0, ROOT_HALF, 0.0))
    seen = render_discs(edge_on, front(), backend=backend)
    expected = torch.tensor([0.8 * math.exp(-(d**2)) for d in (2, 1, 0, 1, 2)])
    torch.testing.assert_close(seen.views.alpha[0, 2], expected, rtol=1e-4, atol=1e-6)
    assert seen.views.depth is not None
    torch.testing.assert_close(seen.views.depth[0, 2], torch.full((5,), 2.0))


@BACKENDS
def test_maps_of_two_discs_are_what_the_sums_say(backend: Backend) -> None:
    two = cloud([(0.0, 0.0, -0.5), (0.0, 0.0, 0.5)], [0.9, 0.6])
    seen = render_discs(two, front(), background=BLACK, backend=backend)
    # The nearer at depth 1.5 takes 0.6 of the light, the farther at 2.5 takes 0.9 of the rest.
    near, far = 0.6, 0.4 * 0.9
    assert seen.views.depth is not None
    depth = torch.tensor((near * 1.5 + far * 2.5) / (near + far))
    torch.testing.assert_close(seen.views.depth[0, 2, 2], depth)
    torch.testing.assert_close(seen.distortion[0, 2, 2], torch.tensor(near * far * 1.0**2))
    torch.testing.assert_close(seen.median_depth[0, 2, 2], torch.tensor(1.5))


@BACKENDS
def test_the_median_is_the_last_that_half_the_light_reaches(backend: Backend) -> None:
    three = cloud([(0.0, 0.0, z) for z in (0.5, 0.0, -0.5)], [0.4, 0.4, 0.4])
    # Light of 1, 0.6 and 0.36 reaches them.
    seen = render_discs(three, front(), backend=backend)
    torch.testing.assert_close(seen.median_depth[0, 2, 2], torch.tensor(2.0))


@BACKENDS
def test_distortion_is_the_sum_over_all_pairs(backend: Backend) -> None:
    z, opacity = [0.4, 0.1, -0.3, -0.35], [0.3, 0.5, 0.4, 0.8]
    seen = render_discs(cloud([(0.0, 0.0, d) for d in z], opacity), front(), backend=backend)
    light, share = 1.0, []
    for o in opacity:
        share.append(light * o)
        light *= 1 - o
    pairs = [(i, j) for i in range(4) for j in range(i)]
    total = sum(share[i] * share[j] * (z[i] - z[j]) ** 2 for i, j in pairs)
    torch.testing.assert_close(seen.distortion[0, 2, 2], torch.tensor(total))


@BACKENDS
@pytest.mark.parametrize(
    ("z", "opacity", "scale"),
    [(0.0, 0.0039, 0.3), (2.5, 0.9, 0.3), (1.995, 0.9, 0.3)],
    ids=["faint", "behind", "near"],
)
def test_what_cannot_be_seen_is_not_drawn(
    backend: Backend, z: float, opacity: float, scale: float
) -> None:
    one = cloud([(0.0, 0.0, z)], [opacity], (scale, scale, scale))
    seen = render_discs(one, front(), background=(0.1, 0.2, 0.3), backend=backend)
    assert seen.views.normal is not None
    for zero in (seen.views.alpha, seen.views.normal, seen.median_depth, seen.distortion):
        assert torch.equal(zero, torch.zeros_like(zero))
    torch.testing.assert_close(seen.views.rgb, torch.tensor([0.1, 0.2, 0.3]).expand(1, 5, 5, 3))


@BACKENDS
def test_a_disc_that_stands_through_the_camera_is_not_drawn(backend: Backend) -> None:
    # Seen from the edge, 2 in front of the camera; its circle of one deviation ends behind it.
    through = (ROOT_HALF, 0.0, ROOT_HALF, 0.0)
    for scale, drawn in ((1.9, True), (2.1, False)):
        one = cloud([(0.3, 0.0, 0.0)], [0.9], (scale, 0.3, 1.0), through)
        assert bool(render_discs(one, front(), backend=backend).views.alpha.max() > 0) == drawn


@BACKENDS
@pytest.mark.parametrize(("gaussians", "cameras"), [(0, 2), (3, 0), (0, 0)])
def test_nothing_is_drawn_from_nothing(backend: Backend, gaussians: int, cameras: int) -> None:
    some = cloud([(0.0, 0.0, 0.0)] * 3, [0.5] * 3)[:gaussians]
    some.centre.requires_grad_()
    poses = Cameras.orbit(
        [10.0] * cameras, elevation_deg=0.0, radius=2.0, fov_deg=60.0, size_hw=(3, 7)
    )
    seen = render_discs(some, poses, backend=backend)
    assert seen.views.rgb.shape == (cameras, 3, 7, 3)
    assert seen.distortion.shape == (cameras, 3, 7)
    if gaussians == 0:
        assert torch.equal(seen.views.rgb, torch.ones(cameras, 3, 7, 3))
    if seen.views.rgb.requires_grad:
        seen.views.rgb.sum().backward()
        assert some.centre.grad is not None
        assert torch.equal(some.centre.grad, torch.zeros_like(some.centre))


@BACKENDS
def test_a_disc_beside_the_camera_gives_no_nan(backend: Backend) -> None:
    # The second centre lies in the focal plane.
    two = cloud([(0.0, 0.0, 0.0), (1.0, 0.0, 2.0)], [0.7, 0.7])
    two.centre.requires_grad_()
    seen = render_discs(two, front(), backend=backend)
    (seen.views.rgb.sum() + seen.distortion.sum()).backward()
    assert two.centre.grad is not None
    assert bool(two.centre.grad.isfinite().all())
    assert torch.equal(two.centre.grad[1], torch.zeros(3))


def gsplat() -> dict[str, Tensor]:
    with np.load(GOLDEN / "gsplat_2dgs.npz") as arrays:
        return {name: torch.tensor(arrays[name]) for name in arrays.files}


def golden_scene(arrays: dict[str, Tensor]) -> tuple[Gaussians, Cameras]:
    gaussians = Gaussians(
        arrays["means"],
        arrays["scales"].log(),
        arrays["quats"],
        torch.logit(arrays["opacities"]),
        ((arrays["colors"] - 0.5) / SH_C0)[:, None],
    )
    poses = torch.linalg.inv(arrays["viewmats"])
    return gaussians, Cameras(poses, arrays["Ks"][:, 0, 0], (16, 20))


def test_the_pictures_are_those_of_gsplat(monkeypatch: pytest.MonkeyPatch) -> None:
    # Its picture was composited without the cuts, and its highest opacity is 0.999.
    monkeypatch.setattr(discs, "ALPHA_MIN", 1e-12)
    monkeypatch.setattr(discs, "TRANSMITTANCE_MIN", 0.0)
    monkeypatch.setattr(discs, "ALPHA_MAX", 0.999)
    arrays = gsplat()
    gaussians, cameras = golden_scene(arrays)
    views = render_discs(gaussians, cameras[0], background=BLACK, backend="reference").views
    torch.testing.assert_close(views.rgb[0], arrays["g2_render_nocull"], rtol=0, atol=1e-5)
    torch.testing.assert_close(views.alpha[0], arrays["g2_alpha_nocull"][..., 0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("n", [0, 1])
def test_the_projection_is_that_of_gsplat(n: int) -> None:
    arrays = gsplat()
    gaussians, cameras = golden_scene(arrays)
    plates = discs._plates(gaussians, cameras[n])  # pyright: ignore[reportPrivateUsage]  the record
    torch.testing.assert_close(plates.middle, arrays["g2_means2d"][n], rtol=0, atol=1e-4)
    torch.testing.assert_close(plates.depth, arrays["g2_depths"][n], rtol=0, atol=1e-5)
    # gsplat's PyTorch twin leaves the third scale in its normals, which are the camera's.
    normal = plates.normal @ arrays["viewmats"][n, :3, :3].T * arrays["scales"][:, 2:]
    torch.testing.assert_close(normal, arrays["g2_normals"][n], rtol=0, atol=1e-5)
    # Its ray transform carries (u, v, 1) to the pixel times depth; ours goes the other way.
    corner = torch.tensor([7.0, 3.0]) + 0.5
    u, v, w = ((corner - plates.centre)[:, None] * plates.slope).sum(dim=-1).unbind(dim=-1)
    w = w + plates.facing
    met = torch.stack([u / w, v / w, torch.ones_like(w)], dim=-1)
    there = (arrays["g2_ray_transforms"][n] @ met[..., None])[..., 0]
    steep = w.abs() > 0.05  # Others lose digits in float32, in gsplat's matrix as in ours.
    pixel = there[:, :2] / there[:, 2:]
    torch.testing.assert_close(pixel[steep], corner.expand(len(w), 2)[steep], rtol=0, atol=1e-2)
    assert int(steep.sum()) > 15


def small_scene() -> tuple[tuple[Tensor, ...], Cameras]:
    """Discs that do not lie near any threshold, float64."""
    rng = torch.Generator().manual_seed(5)
    g = 4
    fields = (
        torch.randn(g, 3, generator=rng, dtype=torch.float64) * 0.15,
        torch.randn(g, 3, generator=rng, dtype=torch.float64) * 0.2 - 1.2,
        torch.randn(g, 4, generator=rng, dtype=torch.float64),
        torch.randn(g, generator=rng, dtype=torch.float64) * 0.3,
        torch.randn(g, 4, 3, generator=rng, dtype=torch.float64) * 0.2,
    )
    cameras = Cameras.orbit([20.0], elevation_deg=10.0, radius=2.0, fov_deg=50.0, size_hw=(3, 4))
    return tuple(field.requires_grad_() for field in fields), cameras


def test_gradients_of_the_reference_are_those_of_differences() -> None:
    fields, cameras = small_scene()

    def pictures(*values: Tensor) -> tuple[Tensor, ...]:
        seen = render_discs(Gaussians(*values), cameras, backend="reference")
        assert seen.views.depth is not None
        assert seen.views.normal is not None
        return (
            seen.views.rgb,
            seen.views.alpha,
            seen.views.depth,
            seen.views.normal,
            seen.median_depth,
            seen.distortion,
        )

    assert torch.autograd.gradcheck(pictures, fields, eps=1e-7, atol=1e-5, rtol=1e-4)


@BACKENDS
def test_the_third_scale_does_not_matter(backend: Backend) -> None:
    thick, thin = (cloud([(0.1, 0.2, 0.0)], [0.8], (1.0, 1.2, s)) for s in (1e-4, 1.0))
    thick.log_scale.requires_grad_()
    one, two = (render_discs(c, front(), backend=backend) for c in (thick, thin))
    assert torch.equal(one.views.rgb, two.views.rgb)
    one.views.alpha.sum().backward()
    assert thick.log_scale.grad is not None
    assert float(thick.log_scale.grad[0, 2]) == 0.0
    assert float(thick.log_scale.grad[0, 0]) > 0.0


def test_turning_everything_turns_the_normals() -> None:
    rng = torch.Generator().manual_seed(1)
    turn = rotation_from_quat(torch.randn(4, generator=rng))
    some = cloud([(0.1, 0.2, 0.0), (-0.2, 0.0, 0.3)], [0.8, 0.7], (0.3, 0.5, 1.0), (1, 0.3, 0.2, 0))
    cameras = front()
    pose = torch.eye(4)
    pose[:3, :3] = turn
    turned = Gaussians(
        some.centre @ turn.T,
        some.log_scale,
        quat_from_rotation(turn @ rotation_from_quat(some.quat_wxyz)),
        some.opacity_logit,
        some.sh,
    )
    turned_cameras = Cameras(pose @ cameras.world_from_camera, cameras.focal_px, cameras.size_hw)
    one = render_discs(some, cameras)
    two = render_discs(turned, turned_cameras)
    assert one.views.normal is not None
    assert two.views.normal is not None
    torch.testing.assert_close(one.views.normal @ turn.T, two.views.normal, rtol=0, atol=1e-4)
    torch.testing.assert_close(one.views.rgb, two.views.rgb, rtol=0, atol=1e-4)


def test_vectors_of_length_zero_stay_and_get_no_gradient() -> None:
    vectors = torch.tensor([[0.0, 0.0, 0.0], [0.0, 3.0, 4.0]], requires_grad=True)
    unit = unit_or_zero(vectors)
    torch.testing.assert_close(unit, torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.6, 0.8]]))
    unit.sum().backward()
    assert vectors.grad is not None
    assert torch.equal(vectors.grad[0], torch.zeros(3))


def test_the_kernel_refuses_other_kinds_of_numbers() -> None:
    one = cloud([(0.0, 0.0, 0.0)], [0.5])
    double = Gaussians(
        one.centre.double(),
        one.log_scale.double(),
        one.quat_wxyz.double(),
        one.opacity_logit.double(),
        one.sh.double(),
    )
    with pytest.raises(ValueError, match="float32"):
        render_discs(double, front(), backend="numba")
