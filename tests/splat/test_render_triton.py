"""The GPU kernel against the reference: in Triton's interpreter, or on a GPU with --device cuda."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import roundview.splat.render as reference
from roundview.camera import Cameras
from roundview.gaussians import Gaussians
from roundview.splat.render import render_gaussians

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs triton"),
]

KINDS = ("ordinary", "around", "outside", "huge", "thin", "faint", "opaque", "tiny", "one")
BACKGROUND = (0.2, 0.9, 0.5)
EDGE = 1e-4
"""Relative distance from a threshold within which float32 may fall on either side of it."""

Tensors = tuple[Tensor, ...]


@pytest.fixture(autouse=True)
def _without_numpys_warnings() -> Iterator[None]:
    """Numbers overflow in the interpreter as on a GPU, where nobody warns of it."""
    with np.errstate(all="ignore"):
        yield


def draw_scene(kind: str, seed: int, most: int) -> Tensors:
    """Fields of a random cloud, then pose and focal length of one to three cameras."""
    rng = torch.Generator().manual_seed(seed)
    g = 1 if kind == "one" else most
    centre = torch.randn(g, 3, generator=rng) * (1.5 if kind == "outside" else 0.4)
    log_scale = torch.randn(g, 3, generator=rng) * 0.5 - 3
    log_scale += {"huge": 3.0, "tiny": -6.0}.get(kind, 0.0)
    if kind == "thin":
        log_scale = log_scale + torch.tensor([3.0, -3.0, -3.0])
    logit = torch.randn(g, generator=rng) + {"faint": -4.0, "opaque": 5.0}.get(kind, 0.5)
    terms = (1, 4, 9, 16)[(KINDS.index(kind) + seed) % 4]
    sh = torch.randn(g, terms, 3, generator=rng) * 0.4
    cameras = Cameras.orbit(
        [20.0, 140.0, 250.0][: 1 + (KINDS.index(kind) + seed) % 3],
        elevation_deg=25.0,
        radius=0.5 if kind == "around" else 1.6,
        fov_deg=50.0,
        size_hw=(1, 1),
    )
    quat = torch.randn(g, 4, generator=rng)
    return centre, log_scale, quat, logit, sh, cameras.world_from_camera, cameras.focal_px


def pictures(scene: Tensors, size_hw: tuple[int, int], backend: reference.Backend) -> Tensors:
    *fields, pose, focal = scene
    # The focal length was that of a picture of one row.
    cameras = Cameras(pose, focal * size_hw[0], size_hw)
    views = render_gaussians(Gaussians(*fields), cameras, background=BACKGROUND, backend=backend)
    assert views.depth is not None
    return views.rgb, views.alpha, views.depth


def settled(scene: Tensors, size_hw: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """Pixels that stay the same when the thresholds move a little: n x h x w."""
    seen = []
    for factor in (1 - EDGE, 1 + EDGE):
        with monkeypatch.context() as patch:
            patch.setattr(reference, "ALPHA_MIN", reference.ALPHA_MIN * factor)
            patch.setattr(reference, "TRANSMITTANCE_MIN", reference.TRANSMITTANCE_MIN * factor)
            seen.append(pictures(scene, size_hw, "reference")[1])
    return (seen[0] - seen[1]).abs() < 1e-9


def gradients(
    scene: Tensors, size_hw: tuple[int, int], backend: reference.Backend, keep: Tensor | None = None
) -> Tensors:
    """By all fields, poses and focal lengths, of a loss that weighs every value differently.

    Pixels that `keep` leaves out do not count.
    """
    moved = tuple(value.detach().clone().requires_grad_() for value in scene)
    drawn = pictures(moved, size_hw, backend)
    rng = torch.Generator().manual_seed(7)
    counted = torch.ones(drawn[1].shape) if keep is None else keep.float()
    weights = [
        torch.randn(p.shape, generator=rng) * (counted if p.dim() == 3 else counted[..., None])
        for p in drawn
    ]
    return torch.autograd.grad(drawn, moved, [w.to(p) for w, p in zip(weights, drawn, strict=True)])


@pytest.mark.parametrize("kind", KINDS)
def test_kernel_and_reference_agree(
    kind: str, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes, most, size_hw = (1, 5, (21, 19)) if device.type == "cpu" else (20, 300, (83, 75))
    lit = 0.0
    for seed in range(scenes):
        scene = draw_scene(kind, seed, most)
        exact = tuple(value.double() for value in scene)
        ours = tuple(value.to(device) for value in scene)
        keep = settled(exact, size_hw, monkeypatch)
        assert keep.double().mean() > 0.95
        expected = pictures(exact, size_hw, "reference")
        for found, right in zip(pictures(ours, size_hw, "triton"), expected, strict=True):
            mask = keep if found.dim() == 3 else keep[..., None]
            difference = (found.cpu() - right) * mask
            assert difference.abs().max() <= 1e-4 * (1 + right.abs().max())
        lit += float(expected[1].sum())
        right_gradients = gradients(exact, size_hw, "reference", keep)
        our_gradients = gradients(ours, size_hw, "triton", keep)
        for found, right in zip(our_gradients, right_gradients, strict=True):
            assert (found.cpu() - right).abs().max() <= 1e-3 * right.abs().max() + 1e-6
    assert lit > 0.3


def test_the_same_bytes_come_out_twice(device: torch.device) -> None:
    # Only a GPU could bring them into disorder.
    size_hw, most = ((9, 17), 3) if device.type == "cpu" else ((200, 301), 5000)
    scene = draw_scene("ordinary", 0, most)
    scene = tuple(value.to(device) for value in scene)
    first, second = (gradients(scene, size_hw, "triton") for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_many_tiles_are_numbered_through_all_cameras(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One wide ellipse and one in a corner, from two cameras: 3 x 4 tiles each, the last ones cut.
    scene = draw_scene("ordinary", 1, 2)
    scene[0][:] = torch.tensor([[0.0, 0.0, 0.0], [-0.5, -0.5, 0.1]])
    scene[1][:] = torch.tensor([[-1.0, -1.5, -2.0], [-3.0, -3.0, -3.0]])
    size_hw = (37, 50)
    ours = tuple(value.to(device) for value in scene)
    keep = settled(scene, size_hw, monkeypatch)
    for found, right in zip(
        pictures(ours, size_hw, "triton"), pictures(scene, size_hw, "reference"), strict=True
    ):
        mask = keep if found.dim() == 3 else keep[..., None]
        torch.testing.assert_close(found.cpu() * mask, right * mask, rtol=1e-4, atol=1e-5)


def test_only_the_gradients_that_are_wanted_come_back(device: torch.device) -> None:
    scene = tuple(value.to(device) for value in draw_scene("ordinary", 0, 3))
    everything = gradients(scene, (9, 9), "triton")
    moved = (scene[0].clone().requires_grad_(), *scene[1:])
    drawn = pictures(moved, (9, 9), "triton")
    rng = torch.Generator().manual_seed(7)
    weights = [torch.randn(picture.shape, generator=rng).to(picture) for picture in drawn]
    (of_centre,) = torch.autograd.grad(drawn, moved[:1], weights)
    assert torch.equal(of_centre, everything[0])


def test_other_types_are_refused(device: torch.device) -> None:
    scene = tuple(value.double().to(device) for value in draw_scene("one", 0, 1))
    with pytest.raises(ValueError, match="float32 tensors on a GPU"):
        pictures(scene, (4, 4), "triton")


@pytest.mark.slow
def test_kernels_compile_for_a_gpu_that_is_not_there(repository: Path, tmp_path: Path) -> None:
    # The interpreter takes Python that the compiler refuses.
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    script = repository / "benchmarks" / "kernel_registers.py"
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**environment, "TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "draw_backward_kernel" in done.stdout
