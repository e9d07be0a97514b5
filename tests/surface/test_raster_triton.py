"""The GPU rasteriser against the reference: in Triton's interpreter, or with --device cuda."""

import importlib.util
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from roundview.camera import Cameras
from roundview.mesh import Mesh, Texture
from roundview.surface import raster

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs triton"),
]


@pytest.fixture(autouse=True)
def _without_numpys_warnings() -> Iterator[None]:
    """Numbers overflow in the interpreter as on a GPU, where nobody warns of it."""
    with np.errstate(all="ignore"):
        yield


def cameras(count: int, size_hw: tuple[int, int], radius: float = 2.0) -> Cameras:
    azimuth = [50.0 * k for k in range(count)]
    return Cameras.orbit(azimuth, elevation_deg=20.0, radius=radius, fov_deg=60.0, size_hw=size_hw)


def soup(count: int, spread: float, seed: int) -> Mesh:
    """Random triangles round the origin; the wider ones pass the cameras."""
    rng = torch.Generator().manual_seed(seed)
    middle = torch.rand(count, 1, 3, generator=rng) * 3 - 1.5
    corners = middle + torch.randn(count, 3, 3, generator=rng) * spread
    return Mesh(corners.reshape(-1, 3), torch.arange(3 * count).reshape(count, 3))


def drawn(mesh: Mesh, seen_by: Cameras, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    from roundview.surface.raster_triton import rasterize_triton  # noqa: PLC0415  may be absent

    there = Mesh(mesh.vertices.to(device), mesh.faces.to(device))
    face, depth, bary = rasterize_triton(there, seen_by.to(device))
    return face.cpu(), depth.cpu(), bary.cpu()


@pytest.mark.parametrize(
    ("count", "spread", "size_hw", "views"),
    [(40, 0.5, (23, 17), 2), (60, 0.05, (30, 40), 1), (3, 5.0, (9, 31), 3), (1, 0.5, (1, 1), 1)],
    ids=["mixed", "small", "large", "one"],
)
def test_kernel_and_reference_agree(
    count: int, spread: float, size_hw: tuple[int, int], views: int, device: torch.device
) -> None:
    mesh, seen_by = soup(count, spread, seed=count), cameras(views, size_hw)
    expected_face, expected_depth, expected_bary = raster._rasterized(  # pyright: ignore[reportPrivateUsage]  the reference has no other door
        mesh, seen_by
    )
    face, depth, bary = drawn(mesh, seen_by, device)
    same = face == expected_face
    # Pixels on an edge may fall to either side.
    assert same.double().mean() > 0.99
    torch.testing.assert_close(depth[same], expected_depth[same], rtol=1e-4, atol=1e-5)
    # A face seen edge-on divides by next to nothing.
    close = (bary - expected_bary[..., 1:]).abs() < 1e-3
    assert close[same].double().mean() > 0.99


def test_the_mesh_is_seen(device: torch.device) -> None:
    face, depth, bary = drawn(soup(40, 0.5, seed=40), cameras(2, (23, 17)), device)
    assert (face >= 0).double().mean() > 0.3
    assert bool((depth[face >= 0] > raster.NEAR).all())
    assert torch.equal(depth[face < 0], torch.zeros_like(depth[face < 0]))
    assert torch.equal(bary[face < 0], torch.zeros_like(bary[face < 0]))


def test_of_equal_depths_the_first_face_wins(device: torch.device) -> None:
    one = torch.tensor([[-1.0, -1.0, 0.0], [1.0, -1.0, 0.0], [0.0, 1.0, 0.0]])
    mesh = Mesh(torch.cat([one, one]), torch.arange(6).reshape(2, 3))
    face, _, bary = drawn(mesh, cameras(1, (9, 9)), device)
    assert set(face.unique().tolist()) == {-1, 0}
    assert bary.max() > 0.3


def test_nothing_is_drawn_from_nothing(device: torch.device) -> None:
    empty = Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64))
    face, depth, _ = drawn(empty, cameras(2, (3, 4)), device)
    assert torch.equal(face, torch.full((2, 3, 4), -1, dtype=torch.int32))
    assert torch.equal(depth, torch.zeros(2, 3, 4))
    assert drawn(soup(2, 0.5, seed=0), cameras(0, (3, 4)), device)[0].shape == (0, 3, 4)


@pytest.mark.parametrize("light", [None, raster.Light((1.0, 1.0, 1.0))], ids=["plain", "lit"])
@pytest.mark.parametrize("smooth", [True, False])
def test_render_mesh_draws_on_the_gpu(
    light: raster.Light | None,
    smooth: bool,
    monkeypatch: pytest.MonkeyPatch,
    device: torch.device,
) -> None:
    plain, seen_by = soup(12, 0.5, seed=12), cameras(2, (12, 17))
    rng = torch.Generator().manual_seed(0)
    uv, texels = torch.rand(36, 2, generator=rng), torch.rand(4, 5, 3, generator=rng)
    here = Mesh(plain.vertices, plain.faces, uv, Texture(texels))
    expected = raster.render_mesh(here, seen_by, light=light, smooth=smooth)
    if device.type == "cpu":  # The interpreter's arrays lie there.
        monkeypatch.setattr(raster, "has_kernels", lambda _: True)
    there = [part.to(device) for part in (here.vertices, here.faces, uv, texels)]
    mesh = Mesh(*there[:3], Texture(there[3]))
    got = raster.render_mesh(mesh, seen_by.to(device), light=light, smooth=smooth)
    assert got.rgb.device.type == device.type
    assert got.depth is not None
    assert expected.depth is not None
    for ours, theirs in ((expected.rgb, got.rgb), (expected.depth, got.depth)):
        # Samples on an edge may fall to either side.
        close = torch.isclose(theirs.cpu(), ours, rtol=1e-3, atol=1e-3)
        assert float(close.double().mean()) > 0.98
    torch.testing.assert_close(
        raster.mesh_depth(mesh, seen_by.to(device)).cpu(),
        drawn(here, seen_by, device)[1],
    )
