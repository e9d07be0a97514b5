"""The CPU kernel against the reference, on clouds that are easy, odd and extreme."""

from typing import Literal

import pytest
import torch
from torch import Tensor

import roundview.splat.render as reference
from roundview.camera import Cameras
from roundview.gaussians import Gaussians
from roundview.kernels import thread_count
from roundview.splat.render import render_gaussians

KINDS = ("ordinary", "around", "outside", "huge", "thin", "faint", "opaque", "one")
SCENES_OF_A_KIND = 25
BACKGROUND = (0.2, 0.9, 0.5)
EDGE = 1e-4
"""Relative distance from a threshold within which float32 may fall on either side of it."""

Backend = Literal["reference", "numba"]
Fields = tuple[Tensor, ...]


def draw_scene(kind: str, rng: torch.Generator) -> tuple[Fields, Cameras]:
    """A random cloud and cameras; no two depths so near that rounding might swap them."""
    while True:
        fields, cameras = _draw_any_scene(kind, rng)
        pose = cameras.camera_from_world
        depth = torch.einsum("nj,gj->ng", pose[:, 2, :3], fields[0]) + pose[:, 2, 3:]
        gap = depth.sort(dim=1).values.diff(dim=1)
        if gap.numel() == 0 or gap.min() > 1e-6:
            return fields, cameras


def _draw_any_scene(kind: str, rng: torch.Generator) -> tuple[Fields, Cameras]:
    def integer(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (1,), generator=rng))

    g = 1 if kind == "one" else integer(2, 60)
    centre = torch.randn(g, 3, generator=rng) * (1.5 if kind == "outside" else 0.4)
    log_scale = torch.randn(g, 3, generator=rng) * 0.5 - 3 + 3 * (kind == "huge")
    if kind == "thin":
        log_scale = log_scale + torch.tensor([3.0, -3.0, -3.0])
    logit = torch.randn(g, generator=rng) + {"faint": -4.0, "opaque": 5.0}.get(kind, 0.5)
    degree = integer(0, 3)
    sh = torch.randn(g, (degree + 1) ** 2, 3, generator=rng) * 0.4
    cameras = Cameras.orbit(
        [float(integer(0, 359)) for _ in range(integer(1, 3))],
        elevation_deg=float(integer(-60, 60)),
        radius=0.5 if kind == "around" else 1.6,
        fov_deg=50.0,
        size_hw=(integer(1, 27), integer(1, 27)),
    )
    return (centre, log_scale, torch.randn(g, 4, generator=rng), logit, sh), cameras


def pictures(fields: Fields, cameras: Cameras, backend: Backend) -> Fields:
    views = render_gaussians(Gaussians(*fields), cameras, background=BACKGROUND, backend=backend)
    assert views.depth is not None
    return views.rgb, views.alpha, views.depth


def settled(fields: Fields, cameras: Cameras, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """Pixels that stay the same when the thresholds move a little: n x h x w."""
    seen = []
    for factor in (1 - EDGE, 1 + EDGE):
        with monkeypatch.context() as patch:
            patch.setattr(reference, "ALPHA_MIN", reference.ALPHA_MIN * factor)
            patch.setattr(reference, "TRANSMITTANCE_MIN", reference.TRANSMITTANCE_MIN * factor)
            with torch.no_grad():
                seen.append(pictures(fields, cameras, "reference")[1])
    return (seen[0] - seen[1]).abs() < 1e-9


def gradients(fields: Fields, cameras: Cameras, backend: Backend, weights: Fields) -> Fields:
    moved = tuple(field.detach().clone().requires_grad_() for field in fields)
    drawn = pictures(moved, cameras, backend)
    loss = torch.stack([(w * p).sum() for w, p in zip(weights, drawn, strict=True)]).sum()
    return torch.autograd.grad(loss, moved)


@pytest.mark.kernel
@pytest.mark.parametrize("kind", KINDS)
def test_kernel_and_reference_agree(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = torch.Generator().manual_seed(KINDS.index(kind))
    drawn_alpha, excused = 0.0, 0.0
    for _ in range(SCENES_OF_A_KIND):
        fields, cameras = draw_scene(kind, rng)
        exact = tuple(field.double() for field in fields)
        keep = settled(exact, cameras, monkeypatch)
        excused = max(excused, 1 - float(keep.double().mean()))
        expected = pictures(exact, cameras, "reference")
        for ours, theirs in zip(pictures(fields, cameras, "numba"), expected, strict=True):
            mask = keep if ours.dim() == 3 else keep[..., None]
            torch.testing.assert_close(ours * mask, theirs.float() * mask, rtol=1e-4, atol=1e-4)
        shapes = [(*keep.shape, 3), keep.shape, keep.shape]
        weights = [torch.randn(shape, generator=rng) for shape in shapes]
        weights = [w * (keep if w.dim() == 3 else keep[..., None]) for w in weights]
        exact_gradients = gradients(exact, cameras, "reference", tuple(w.double() for w in weights))
        our_gradients = gradients(fields, cameras, "numba", tuple(weights))
        for ours, theirs in zip(our_gradients, exact_gradients, strict=True):
            error = (ours - theirs).abs().max()
            assert error <= 1e-3 * theirs.abs().max() + 1e-6
        drawn_alpha += float(expected[1].sum())
    # The test must have looked at something, and excused next to nothing.
    assert drawn_alpha > 1
    assert excused < 0.05


def busy_scene() -> tuple[Fields, Cameras]:
    rng = torch.Generator().manual_seed(0)
    g = 5000
    fields = (
        torch.randn(g, 3, generator=rng) * 0.2,
        torch.randn(g, 3, generator=rng) * 0.3 - 3.5,
        torch.randn(g, 4, generator=rng),
        torch.randn(g, generator=rng),
        torch.randn(g, 4, 3, generator=rng),
    )
    cameras = Cameras.orbit(
        [0.0, 120.0], elevation_deg=20.0, radius=1.5, fov_deg=50.0, size_hw=(75, 101)
    )
    return fields, cameras


@pytest.mark.kernel
def test_the_number_of_threads_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROUNDVIEW_THREADS", raising=False)
    if thread_count() < 2:
        pytest.skip("needs two cores and NUMBA_NUM_THREADS of at least two")
    fields, cameras = busy_scene()
    results = []
    for threads in ("1", "2"):
        monkeypatch.setenv("ROUNDVIEW_THREADS", threads)
        drawn = pictures(fields, cameras, "numba")
        ones = tuple(torch.ones_like(picture) for picture in drawn)
        results.append((*drawn, *gradients(fields, cameras, "numba", ones)))
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)


@pytest.mark.kernel
def test_the_same_picture_comes_out_twice() -> None:
    fields, cameras = busy_scene()
    first, second = (pictures(fields, cameras, "numba") for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.kernel
def test_pictures_drawn_together_are_those_drawn_alone() -> None:
    fields, cameras = busy_scene()
    together = pictures(fields, cameras, "numba")
    for n in range(len(cameras)):
        alone = pictures(fields, cameras[n], "numba")
        assert all(torch.equal(a[n], b[0]) for a, b in zip(together, alone, strict=True))


@pytest.mark.kernel
def test_fields_that_are_not_contiguous_are_read_in_order() -> None:
    fields, cameras = busy_scene()
    turned = tuple(
        field.T.contiguous().T if field.dim() == 2 else field.flip(0).flip(0) for field in fields
    )
    for a, b in zip(
        pictures(fields, cameras, "numba"), pictures(turned, cameras, "numba"), strict=True
    ):
        assert torch.equal(a, b)


@pytest.mark.kernel
def test_a_graph_can_be_walked_twice() -> None:
    fields, cameras = busy_scene()
    centre = fields[0].clone().requires_grad_()
    rgb = pictures((centre, *fields[1:]), cameras, "numba")[0]
    (once,) = torch.autograd.grad(rgb.sum(), centre, retain_graph=True)
    (twice,) = torch.autograd.grad(rgb.sum(), centre)
    assert torch.equal(once, twice)


def camera_gradients(
    fields: Fields, cameras: Cameras, backend: Backend, weights: Fields
) -> tuple[Tensor, ...]:
    pose = cameras.world_from_camera.detach().to(fields[0]).requires_grad_()
    focal = cameras.focal_px.detach().to(fields[0]).requires_grad_()
    moved = Cameras(pose, focal, cameras.size_hw)
    drawn = pictures(fields, moved, backend)
    loss = torch.stack([(w * p).sum() for w, p in zip(weights, drawn, strict=True)]).sum()
    return torch.autograd.grad(loss, (pose, focal))


@pytest.mark.kernel
@pytest.mark.parametrize("kind", KINDS)
def test_kernel_and_reference_agree_on_the_cameras(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = torch.Generator().manual_seed(KINDS.index(kind))
    for _ in range(8):
        fields, cameras = draw_scene(kind, rng)
        exact = tuple(field.double() for field in fields)
        keep = settled(exact, cameras, monkeypatch)
        shapes = [(*keep.shape, 3), keep.shape, keep.shape]
        weights = [torch.randn(shape, generator=rng) for shape in shapes]
        weights = [w * (keep if w.dim() == 3 else keep[..., None]) for w in weights]
        expected = camera_gradients(exact, cameras, "reference", tuple(w.double() for w in weights))
        found = camera_gradients(fields, cameras, "numba", tuple(weights))
        for ours, theirs in zip(found, expected, strict=True):
            assert (ours - theirs).abs().max() <= 1e-3 * theirs.abs().max() + 1e-5


@pytest.mark.kernel
def test_the_cameras_gradient_is_the_slope_of_the_loss() -> None:
    """Central differences: Gaussians so wide that none ends within the picture."""
    fields, cameras = busy_scene()
    few = tuple(field[:6] for field in fields)
    few = (few[0], 0.2 * few[1], few[2], few[3] - 1.0, few[4])
    weights = tuple(torch.ones_like(picture) for picture in pictures(few, cameras, "numba"))
    weights = (weights[0], weights[1], 0 * weights[2])
    d_pose, d_focal = camera_gradients(few, cameras, "numba", weights)

    def loss(pose: Tensor, focal: Tensor) -> float:
        exact = tuple(field.double() for field in few)
        drawn = pictures(exact, Cameras(pose, focal, cameras.size_hw), "reference")
        return float((weights[0] * drawn[0]).sum() + (weights[1] * drawn[1]).sum())

    pose, focal, step = cameras.world_from_camera.double(), cameras.focal_px.double(), 1e-4
    for axis in range(3):
        moved = torch.zeros_like(pose)
        moved[1, axis, 3] = step
        slope = (loss(pose + moved, focal) - loss(pose - moved, focal)) / (2 * step)
        assert float(d_pose[1, axis, 3]) == pytest.approx(slope, rel=1e-2)
    zoomed = torch.tensor([0.0, 100 * step])
    slope = (loss(pose, focal + zoomed) - loss(pose, focal - zoomed)) / (200 * step)
    assert float(d_focal[1]) == pytest.approx(slope, rel=1e-2)
