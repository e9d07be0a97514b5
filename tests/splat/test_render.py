"""The renderer: what must be seen, worked by hand, against gsplat, and its gradient."""

import importlib.util
import math
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from roundview.camera import Cameras
from roundview.gaussians import Gaussians
from roundview.rotation import SH_C0, sh_basis
from roundview.splat import render
from roundview.splat.render import Backend, render_gaussians, render_gaussians_reference

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
# Pictures worked by hand are small enough for Triton's interpreter.
INTERPRETED = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None or os.environ.get("TRITON_INTERPRET") != "1",
    reason="needs Triton's interpreter",
)
BACKENDS = pytest.mark.parametrize(
    "backend", ["reference", "numba", pytest.param("triton", marks=INTERPRETED)]
)
BLACK = (0.0, 0.0, 0.0)


def front(size: int = 5, radius: float = 2.0) -> Cameras:
    """One camera on +Z looking at the origin; focal length is half the height in pixels."""
    return Cameras.orbit(
        [0.0], elevation_deg=0.0, radius=radius, fov_deg=90.0, size_hw=(size, size)
    )


def on_axis(
    z: list[float], opacity: list[float], rgb: list[tuple[float, float, float]], scale: float = 0.4
) -> Gaussians:
    """Round Gaussians on the world's Z axis."""
    count = len(z)
    centre = torch.zeros(count, 3)
    centre[:, 2] = torch.tensor(z)
    return Gaussians(
        centre=centre,
        log_scale=torch.full((count, 3), math.log(scale)),
        quat_wxyz=torch.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(count, 1),
        opacity_logit=torch.logit(torch.tensor(opacity)),
        sh=((torch.tensor(rgb) - 0.5) / SH_C0)[:, None],
    )


@BACKENDS
def test_one_gaussian_on_the_axis_is_what_the_formula_says(backend: Backend) -> None:
    cloud = on_axis([0.0], [0.8], [(0.2, 0.4, 1.0)])
    views = render_gaussians(cloud, front(), background=(1.0, 0.0, 0.5), backend=backend)
    # Focal length 2.5 px, distance 2: a deviation of 0.4 is 0.5 px, so the variance is 0.25 + 0.3.
    alpha = [0.8 * math.exp(-0.5 * d**2 / 0.55) for d in (0, 1, 2)]
    expected = torch.tensor([alpha[2], alpha[1], alpha[0], alpha[1], alpha[2]])
    torch.testing.assert_close(views.alpha[0, 2], expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(views.alpha[0, :, 2], expected, rtol=1e-5, atol=1e-6)
    middle = torch.tensor([0.8 * 0.2 + 0.2 * 1.0, 0.8 * 0.4, 0.8 * 1.0 + 0.2 * 0.5])
    torch.testing.assert_close(views.rgb[0, 2, 2], middle, rtol=1e-5, atol=1e-6)
    assert views.depth is not None
    torch.testing.assert_close(views.depth[0, 2], torch.full((5,), 2.0))


@BACKENDS
def test_the_nearer_gaussian_covers_the_farther(backend: Backend) -> None:
    red, blue = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)
    # The farther one comes first in the cloud.
    cloud = on_axis([-0.5, 0.5], [0.9, 0.6], [blue, red])
    views = render_gaussians(cloud, front(), background=BLACK, backend=backend)
    torch.testing.assert_close(
        views.rgb[0, 2, 2], torch.tensor([0.6, 0.0, 0.4 * 0.9]), rtol=1e-5, atol=1e-6
    )
    assert views.depth is not None
    depth = (0.6 * 1.5 + 0.36 * 2.5) / 0.96
    torch.testing.assert_close(views.depth[0, 2, 2], torch.tensor(depth))


@BACKENDS
def test_gaussians_of_equal_depth_keep_their_order(backend: Backend) -> None:
    red, blue = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)
    views = render_gaussians(
        on_axis([0.0, 0.0], [0.6, 0.6], [red, blue]), front(), background=BLACK, backend=backend
    )
    torch.testing.assert_close(views.rgb[0, 2, 2], torch.tensor([0.6, 0.0, 0.24]))


@BACKENDS
def test_a_pixel_is_finished_before_it_is_darker_than_a_ten_thousandth(
    backend: Backend,
) -> None:
    z = [0.3, 0.2, 0.1, 0.0]
    views = render_gaussians(
        on_axis(z, [0.95] * 4, [(1.0, 1.0, 1.0)] * 4), front(), background=BLACK, backend=backend
    )
    # 0.05^3 = 1.25e-4 stays, 0.05^4 = 6e-6 would be too dark: the fourth is left out.
    torch.testing.assert_close(1 - views.alpha[0, 2, 2], torch.tensor(1.25e-4), rtol=0, atol=1e-6)


@BACKENDS
def test_no_gaussian_hides_more_than_99_percent(backend: Backend) -> None:
    views = render_gaussians(
        on_axis([0.0], [0.9999], [(1.0, 1.0, 1.0)]), front(), background=BLACK, backend=backend
    )
    torch.testing.assert_close(views.alpha[0, 2, 2], torch.tensor(0.99))


@BACKENDS
@pytest.mark.parametrize(
    ("z", "opacity"), [(0.0, 0.0039), (2.5, 0.9), (1.995, 0.9)], ids=["faint", "behind", "near"]
)
def test_what_cannot_be_seen_is_not_drawn(backend: Backend, z: float, opacity: float) -> None:
    cloud = on_axis([z], [opacity], [(1.0, 0.0, 0.0)])
    views = render_gaussians(cloud, front(), background=(0.1, 0.2, 0.3), backend=backend)
    assert views.depth is not None
    assert torch.equal(views.alpha, torch.zeros(1, 5, 5))
    assert torch.equal(views.depth, torch.zeros(1, 5, 5))
    torch.testing.assert_close(views.rgb, torch.tensor([0.1, 0.2, 0.3]).expand(1, 5, 5, 3))


@BACKENDS
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_colour_depends_on_where_the_camera_stands(backend: Backend, degree: int) -> None:
    sh = torch.randn(1, (degree + 1) ** 2, 3, generator=torch.Generator().manual_seed(degree)) / 2
    round_one = on_axis([0.0], [0.9], [(0.5, 0.5, 0.5)])
    cloud = Gaussians(
        round_one.centre, round_one.log_scale, round_one.quat_wxyz, round_one.opacity_logit, sh
    )
    cameras = Cameras.orbit(
        [0.0, 70.0, 200.0], elevation_deg=25.0, radius=2.0, fov_deg=90.0, size_hw=(5, 5)
    )
    views = render_gaussians(cloud, cameras, background=BLACK, backend=backend)
    direction = torch.nn.functional.normalize(-cameras.origin, dim=-1)
    rgb = (0.5 + torch.einsum("nk,kc->nc", sh_basis(direction, degree), sh[0])).clamp(min=0)
    torch.testing.assert_close(views.rgb[:, 2, 2], 0.9 * rgb, rtol=1e-5, atol=1e-5)


@BACKENDS
@pytest.mark.parametrize(("gaussians", "cameras"), [(0, 2), (3, 0), (0, 0)])
def test_nothing_is_drawn_from_nothing(backend: Backend, gaussians: int, cameras: int) -> None:
    cloud = on_axis([0.0] * 3, [0.5] * 3, [(1.0, 0.0, 0.0)] * 3)[:gaussians]
    cloud.centre.requires_grad_()
    poses = Cameras.orbit(
        [10.0] * cameras, elevation_deg=0.0, radius=2.0, fov_deg=60.0, size_hw=(3, 7)
    )
    views = render_gaussians(cloud, poses, backend=backend)
    assert views.rgb.shape == (cameras, 3, 7, 3)
    if gaussians == 0:
        assert torch.equal(views.rgb, torch.ones(cameras, 3, 7, 3))
    if views.rgb.requires_grad:
        views.rgb.sum().backward()
        assert cloud.centre.grad is not None
        assert torch.equal(cloud.centre.grad, torch.zeros_like(cloud.centre))


@BACKENDS
def test_gsplat_draws_the_same(backend: Backend) -> None:
    golden = {k: torch.from_numpy(v) for k, v in np.load(GOLDEN / "gsplat_ref.npz").items()}
    cloud = Gaussians(
        golden["means"],
        golden["scales"].log(),
        golden["quats"],
        torch.logit(golden["opacities"]),
        ((golden["colors"] - 0.5) / SH_C0)[:, None],
    )
    cameras = Cameras(torch.linalg.inv(golden["viewmats"]), golden["Ks"][:, 0, 0], (16, 20))
    views = render_gaussians(cloud, cameras, background=BLACK, backend=backend)
    for n in range(2):
        torch.testing.assert_close(views.rgb[n], golden[f"render{n}"], rtol=0, atol=1e-5)
        torch.testing.assert_close(views.alpha[n], golden[f"alpha{n}"][..., 0], rtol=0, atol=1e-5)


def test_float64_is_drawn_in_float64() -> None:
    cloud = on_axis([0.0], [0.8], [(0.2, 0.4, 1.0)])
    double = Gaussians(*(getattr(cloud, name).double() for name in cloud.__dataclass_fields__))
    assert render_gaussians(double, front()).rgb.dtype == torch.float64
    with pytest.raises(ValueError, match="float64"):
        render_gaussians(double, front(), backend="numba")


@pytest.mark.parametrize(
    ("device", "dtype", "expected"),
    [
        ("cpu", torch.float32, "numba"),
        ("cpu", torch.float64, "reference"),
        ("cuda", torch.float32, "triton"),
        ("cuda", torch.float64, "reference"),
        ("mps", torch.float32, "reference"),
    ],
)
def test_auto_takes_the_kernel_of_the_device(
    device: str, dtype: torch.dtype, expected: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(render, "_has_triton", lambda: True)
    with FakeTensorMode():
        # Has a device that need not be there.
        centre = torch.empty(2, 3, device=device, dtype=dtype)
        assert render._best_backend(centre) == expected  # pyright: ignore[reportPrivateUsage]  what it chooses may not be there to ask


def test_a_backend_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = on_axis([0.0], [0.5], [(1.0, 0.0, 0.0)])
    find_spec = importlib.util.find_spec
    with monkeypatch.context() as patch:
        patch.setattr(
            importlib.util, "find_spec", lambda n: None if n == "triton" else find_spec(n)
        )
        with pytest.raises(ValueError, match=r"'triton'.*use backend='auto'"):
            render_gaussians(cloud, front(), backend="triton")
        patch.setitem(sys.modules, "gsplat", None)
        with pytest.raises(ValueError, match=r"'gsplat'.*use backend='auto'"):
            render_gaussians(cloud, front(), backend="gsplat")


def small_scene(dtype: torch.dtype) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
    """Fields of four Gaussians, and poses and focal lengths of two cameras."""
    rng = torch.Generator().manual_seed(4)
    fields = (
        torch.randn(4, 3, generator=rng) * 0.3,
        torch.randn(4, 3, generator=rng) * 0.3 - 1.2,
        torch.randn(4, 4, generator=rng),
        torch.randn(4, generator=rng),
        torch.randn(4, 4, 3, generator=rng) * 0.3,
    )
    cameras = Cameras.orbit(
        [20.0, 140.0], elevation_deg=30.0, radius=1.5, fov_deg=60.0, size_hw=(5, 6)
    )
    pose, focal = cameras.world_from_camera.to(dtype), cameras.focal_px.to(dtype)
    return tuple(field.to(dtype) for field in fields), pose, focal


def total(fields: tuple[Tensor, ...], pose: Tensor, focal: Tensor) -> Tensor:
    """A loss that weighs every value of the reference's pictures differently."""
    views = render_gaussians_reference(Gaussians(*fields), Cameras(pose, focal, (5, 6)))
    assert views.depth is not None
    drawn = torch.cat([views.rgb, views.alpha[..., None], views.depth[..., None]], dim=-1)
    return (drawn * torch.linspace(-1, 1, drawn.numel()).to(drawn).reshape(drawn.shape)).sum()


def test_the_gradients_of_fields_and_cameras_are_those_of_finite_differences() -> None:
    fields, pose, focal = small_scene(torch.float64)
    inputs = tuple(value.requires_grad_() for value in (*fields, pose, focal))
    assert torch.autograd.gradcheck(
        lambda *moved: total(moved[:5], *moved[5:]), inputs, eps=1e-6, atol=1e-6, rtol=1e-6
    )


class _Types(TorchDispatchMode):
    """Notes the types of all tensors that operators make."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[torch.dtype] = set()

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401  torch's
        types: Any,  # noqa: ANN401  torch's
        args: Any = (),  # noqa: ANN401  torch's
        kwargs: Any = None,  # noqa: ANN401  torch's
    ) -> object:
        out = func(*args, **(kwargs or {}))
        self.seen |= {t.dtype for t in tree_leaves(out) if isinstance(t, Tensor)}
        return out


def test_the_reference_makes_no_float64_which_apples_gpus_lack() -> None:
    fields, pose, focal = small_scene(torch.float32)
    inputs = tuple(value.requires_grad_() for value in (*fields, pose, focal))
    with _Types() as types:
        total(inputs[:5], *inputs[5:]).backward()
    assert torch.float32 in types.seen
    assert torch.float64 not in types.seen


@pytest.mark.skipif(not torch.backends.mps.is_available(), reason="needs an Apple GPU")
def test_apples_gpus_draw_the_same() -> None:
    fields, pose, focal = small_scene(torch.float32)
    results = []
    for device in ("cpu", "mps"):
        inputs = tuple(v.detach().to(device).requires_grad_() for v in (*fields, pose, focal))
        loss = total(inputs[:5], *inputs[5:])
        results.append((loss, *torch.autograd.grad(loss, inputs)))
    for here, there in zip(*results, strict=True):
        torch.testing.assert_close(there.cpu(), here, rtol=1e-4, atol=1e-4)
