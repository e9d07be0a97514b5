"""The CPU kernel of discs against the reference, on clouds that are easy, odd and extreme."""

from typing import Literal

import pytest
import torch
from torch import Tensor

import roundview.splat.discs as reference
from roundview.camera import Cameras
from roundview.gaussians import Gaussians
from roundview.kernels import thread_count
from roundview.rotation import quat_from_rotation
from roundview.splat.discs import render_discs

KINDS = (
    "ordinary",
    "around",
    "outside",
    "huge",
    "tiny",
    "thin",
    "edge-on",
    "faint",
    "opaque",
    "one",
)
SCENES_OF_A_KIND = 15
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
    log_scale = torch.randn(g, 3, generator=rng) * 0.5 - 3
    log_scale = log_scale + {"huge": 2.5, "tiny": -8.0, "edge-on": 1.0}.get(kind, 0.0)
    if kind == "thin":
        log_scale = log_scale + torch.tensor([2.0, -3.0, 0.0])
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
    quat = torch.randn(g, 4, generator=rng)
    if kind == "edge-on":
        quat = _almost_edge_on(centre, cameras, rng)
    return (centre, log_scale, quat, logit, sh), cameras


def _almost_edge_on(centre: Tensor, cameras: Cameras, rng: torch.Generator) -> Tensor:
    """Turn normals until they stand across the ray from the first camera, to a degree or so."""
    ray = torch.nn.functional.normalize(centre - cameras.origin[0], dim=-1)
    across = torch.nn.functional.normalize(
        torch.linalg.cross(ray, torch.randn(ray.shape, generator=rng)), dim=-1
    )
    tilt = 0.02 * torch.randn(len(ray), 1, generator=rng)
    normal = torch.nn.functional.normalize(across + tilt * ray, dim=-1)
    first = torch.nn.functional.normalize(torch.linalg.cross(normal, ray), dim=-1)
    return quat_from_rotation(torch.stack([first, torch.linalg.cross(normal, first), normal], -1))


def pictures(fields: Fields, cameras: Cameras, backend: Backend) -> Fields:
    seen = render_discs(Gaussians(*fields), cameras, background=BACKGROUND, backend=backend)
    views = seen.views
    assert views.depth is not None
    assert views.normal is not None
    return (
        views.rgb,
        views.normal,
        views.alpha,
        views.depth,
        seen.median_depth,
        seen.distortion,
    )


def settled(fields: Fields, cameras: Cameras, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """Pixels that stay the same when the thresholds move a little: n x h x w."""
    seen = []
    for factor in (1 - EDGE, 1 + EDGE):

        def sharper(power: Tensor, blurred: Tensor, factor: float = factor) -> Tensor:
            return power <= factor * blurred

        with monkeypatch.context() as patch:
            for name in ("ALPHA_MIN", "TRANSMITTANCE_MIN", "MEDIAN_LIGHT", "NEAR"):
                patch.setattr(reference, name, getattr(reference, name) * factor)
            patch.setattr(reference, "_sharper", sharper)
            with torch.no_grad():
                seen.append(pictures(fields, cameras, "reference"))
    same = [
        ((a - b).abs() < 1e-9).reshape(*a.shape[:3], -1).all(-1) for a, b in zip(*seen, strict=True)
    ]
    return torch.stack(same).all(dim=0)


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
        excused += 1 - float(keep.double().mean())
        expected = pictures(exact, cameras, "reference")
        for k, ours in enumerate(pictures(fields, cameras, "numba")):
            mask = keep if ours.dim() == 3 else keep[..., None]
            # Normals that nearly cancel are brought to unit length, and their rounding with them.
            torch.testing.assert_close(
                ours * mask, expected[k].float() * mask, rtol=1e-4, atol=1e-3 if k == 1 else 1e-4
            )
        weights = [torch.randn(p.shape, generator=rng) for p in expected]
        weights = [w * (keep if w.dim() == 3 else keep[..., None]) for w in weights]
        # As losses do: at the rim, where next to nothing is seen, a normal has no digits left.
        weights[1] = weights[1] * expected[2][..., None].float()
        exact_gradients = gradients(exact, cameras, "reference", tuple(w.double() for w in weights))
        our_gradients = gradients(fields, cameras, "numba", tuple(weights))
        for ours, theirs in zip(our_gradients, exact_gradients, strict=True):
            error = (ours - theirs).abs().max()
            assert error <= 1e-3 * theirs.abs().max() + 1e-6
        drawn_alpha += float(expected[2].sum())
    # The test must have looked at something, and excused next to nothing.
    assert drawn_alpha > 1
    assert excused < 0.05 * SCENES_OF_A_KIND


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
def test_pictures_drawn_together_are_those_drawn_alone() -> None:
    fields, cameras = busy_scene()
    together = pictures(fields, cameras, "numba")
    for n in range(len(cameras)):
        alone = pictures(fields, cameras[n], "numba")
        assert all(torch.equal(a[n], b[0]) for a, b in zip(together, alone, strict=True))


@pytest.mark.kernel
def test_a_graph_can_be_walked_twice() -> None:
    fields, cameras = busy_scene()
    centre = fields[0].clone().requires_grad_()
    rgb = pictures((centre, *fields[1:]), cameras, "numba")[0]
    (once,) = torch.autograd.grad(rgb.sum(), centre, retain_graph=True)
    (twice,) = torch.autograd.grad(rgb.sum(), centre)
    assert torch.equal(once, twice)
