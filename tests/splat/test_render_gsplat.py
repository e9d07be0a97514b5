"""The adapter to gsplat: what it hands over and takes back, and what it says without a GPU."""

import sys
import types
from typing import Any

import gsplat
import pytest
import torch
from torch import Tensor

from roundview.camera import Cameras
from roundview.gaussians import Gaussians
from roundview.splat import render_gsplat
from roundview.splat.render import render_gaussians, render_gaussians_reference
from roundview.splat.render_gsplat import intrinsics, render_gaussians_gsplat

BACKGROUND = (0.2, 0.9, 0.5)


def scene(device: str = "cpu") -> tuple[Gaussians, Cameras]:
    rng = torch.Generator().manual_seed(1)
    cloud = Gaussians(
        torch.randn(6, 3, generator=rng) * 0.3,
        torch.randn(6, 3, generator=rng) * 0.3 - 1.5,
        torch.randn(6, 4, generator=rng),
        torch.randn(6, generator=rng),
        torch.randn(6, 4, 3, generator=rng) * 0.3,
    )
    cameras = Cameras.orbit(
        [20.0, 140.0], elevation_deg=30.0, radius=1.5, fov_deg=60.0, size_hw=(5, 8)
    )
    return cloud.to(device), cameras.to(device)


def test_without_a_gpu_it_says_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"NVIDIA GPUs only.*backend='auto'"):
        render_gaussians(*scene(), backend="gsplat")


def test_intrinsics_put_points_where_our_projection_does() -> None:
    _, cameras = scene()
    in_camera = torch.tensor([0.3, -0.2, 2.0])
    pixel = intrinsics(cameras) @ in_camera
    expected = in_camera[:2] / 2 * cameras.focal_px[:, None] + torch.tensor([4.0, 2.5])
    torch.testing.assert_close(pixel[:, :2] / pixel[:, 2:], expected)


def test_gsplat_is_told_the_scene_and_its_pictures_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stand-in that reads gsplat's arguments as its documentation defines them, and draws."""

    def rasterization(*scene: Any, **options: Any) -> tuple[Tensor, Tensor, object]:  # noqa: ANN401  gsplat's
        means, quats, scales, opacities, colors, viewmats, intrinsics, width, height = scene
        assert options["sh_degree"] == 1
        assert options["render_mode"] == "RGB+ED"
        cloud = Gaussians(means, scales.log(), quats, torch.logit(opacities), colors)
        cameras = Cameras(torch.linalg.inv(viewmats), intrinsics[:, 0, 0], (height, width))
        red, green, blue = (float(value) for value in options["backgrounds"][1])
        views = render_gaussians_reference(cloud, cameras, background=(red, green, blue))
        assert views.depth is not None
        return torch.cat([views.rgb, views.depth[..., None]], -1), views.alpha[..., None], {}

    monkeypatch.setattr(gsplat, "rasterization", rasterization)
    monkeypatch.setattr(render_gsplat, "require_compiled_gsplat", lambda: None)
    cloud, cameras = scene()
    # As if the tensors were on a GPU.
    monkeypatch.setattr(Tensor, "is_cuda", property(lambda _: True))
    found = render_gaussians_gsplat(cloud, cameras, background=BACKGROUND)
    expected = render_gaussians_reference(cloud, cameras, background=BACKGROUND)
    assert found.depth is not None
    assert expected.depth is not None
    torch.testing.assert_close(found.rgb, expected.rgb, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.alpha, expected.alpha, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.depth, expected.depth, rtol=1e-4, atol=1e-5)


def test_without_nvcc_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    # What gsplat leaves where it finds no nvcc.
    monkeypatch.setitem(sys.modules, "gsplat.cuda._backend", types.SimpleNamespace(_C=None))
    with pytest.raises(ValueError, match=r"nvcc.*backend='auto'"):
        render_gsplat.require_compiled_gsplat()


@pytest.mark.kernel
def test_gsplat_draws_what_the_reference_draws(device: torch.device) -> None:
    if device.type != "cuda":
        pytest.skip("needs --device cuda")
    try:
        render_gsplat.require_compiled_gsplat()
    except ValueError as error:
        pytest.skip(str(error))
    cloud, cameras = scene("cuda")
    found = render_gaussians(cloud, cameras, background=BACKGROUND, backend="gsplat")
    expected = render_gaussians(cloud, cameras, background=BACKGROUND, backend="reference")
    torch.testing.assert_close(found.rgb, expected.rgb, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found.alpha, expected.alpha, rtol=1e-3, atol=1e-3)
