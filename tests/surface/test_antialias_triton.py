"""The GPU's smoothing of outlines against the CPU's: in Triton's interpreter, or with a GPU."""

import importlib.util
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from roundview.camera import Cameras, project
from roundview.mesh import Mesh, Texture
from roundview.surface import antialias_render, raster
from roundview.surface.antialias import Crossings, Edges, antialiased, edges_of, find_crossings
from roundview.surface.antialias_render import render_mesh_antialiased
from roundview.surface.isosurface import mesh_from_density
from roundview.surface.raster import nearest_faces

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


def ball(resolution: int) -> Mesh:
    def inside(points: Tensor) -> Tensor:
        return 0.4 - points.norm(dim=-1)

    return mesh_from_density(inside, level=0.0, half_width=0.5, resolution=resolution)


def crossings(mesh: Mesh, seen_by: Cameras, device: torch.device) -> tuple[Crossings, Crossings]:
    """What the CPU finds, and what the GPU does."""
    from roundview.surface.antialias_triton import find_crossings_triton  # noqa: PLC0415  may be absent

    face_at, depth = nearest_faces(mesh, seen_by)
    pixel, away = project(mesh.vertices, seen_by)
    edges = edges_of(mesh)
    there = [part.to(device) for part in (face_at, depth, pixel, away)]
    found = find_crossings_triton(*there, Edges(*(part.to(device) for part in edges)))
    return find_crossings(face_at, depth, pixel, away, edges), Crossings(*(p.cpu() for p in found))


def listed(found: Crossings) -> set[tuple[int, ...]]:
    """Pair, direction and edge of every crossing."""
    ends = found.ends.T.tolist()
    return set(zip(found.first.tolist(), found.second.tolist(), found.down.tolist(), *ends))  # noqa: B905  of one length


@pytest.mark.parametrize(
    ("mesh", "views", "size_hw"),
    [
        (soup(30, 0.5, seed=1), 2, (23, 17)),
        (soup(60, 0.1, seed=2), 2, (30, 40)),
        (soup(3, 5.0, seed=3), 3, (9, 31)),
        (ball(12), 1, (40, 40)),
        (soup(1, 0.5, seed=4), 1, (1, 1)),
    ],
    ids=["mixed", "small", "large", "closed", "one pixel"],
)
def test_the_same_outlines_are_found(
    mesh: Mesh, views: int, size_hw: tuple[int, int], device: torch.device
) -> None:
    expected, found = (listed(one) for one in crossings(mesh, cameras(views, size_hw), device))
    # An edge through a pixel's centre may fall to either side.
    assert len(expected ^ found) <= 0.01 * len(expected)
    assert (len(expected) > 10) == (size_hw != (1, 1))


@pytest.mark.parametrize("channels", [1, 7])
@pytest.mark.parametrize("mesh", [soup(30, 0.5, seed=1), ball(12)], ids=["soup", "ball"])
def test_pictures_and_slopes_are_those_of_the_cpu(
    mesh: Mesh, channels: int, device: torch.device
) -> None:
    from roundview.surface.antialias_triton import antialiased_triton  # noqa: PLC0415  may be absent

    seen_by = cameras(2, (23, 17), radius=1.2)
    found, _ = crossings(mesh, seen_by, device)
    rng = torch.Generator().manual_seed(channels)
    picture = torch.rand(2, 23, 17, channels, generator=rng)
    upstream = torch.randn(2, 23, 17, channels, generator=rng)
    results = []
    for smooth, where in ((antialiased, torch.device("cpu")), (antialiased_triton, device)):
        colours = picture.to(where).requires_grad_()
        pixel = project(mesh.vertices, seen_by)[0].to(where).requires_grad_()
        there = Crossings(*(part.to(where) for part in found))
        out = smooth(colours, pixel, there)
        grads = torch.autograd.grad(out, [colours, pixel], upstream.to(where))
        results.append([out.detach().cpu(), *(grad.cpu() for grad in grads)])
    (out, on_colours, on_pixel), theirs = results
    assert not torch.equal(out, picture)
    assert float(on_pixel.abs().max()) > 0.1
    for ours, other in zip((out, on_colours, on_pixel), theirs, strict=True):
        # Sums of a few float32 products in another order.
        torch.testing.assert_close(other, ours, rtol=1e-4, atol=2e-5)


def test_a_pixel_gives_away_no_more_than_itself(device: torch.device) -> None:
    from roundview.surface.antialias_triton import antialiased_triton  # noqa: PLC0415  may be absent

    # Four edges a half into the middle pixel of nine: it keeps nothing of its own.
    ends = torch.tensor([[0, 1], [2, 3], [4, 5], [6, 7]])
    upright, level = [[1.5, 0.0], [1.5, 3.0]], [[0.0, 1.5], [3.0, 1.5]]
    place = torch.tensor(upright + upright + level + level)
    found = Crossings(
        torch.tensor([3, 4, 1, 4]),
        torch.tensor([4, 5, 4, 7]),
        torch.tensor([False, False, True, True]),
        ends,
        torch.full((4,), 1.5),
        torch.tensor([1.0, 2.0, 1.0, 2.0]),
    )
    picture = torch.zeros(1, 3, 3, 1)
    picture[0, :, :, 0] = torch.tensor([[0.0, 1, 0], [2, 100, 3], [0, 6, 0]])
    there = Crossings(*(part.to(device) for part in found))
    out = antialiased_triton(picture.to(device), place[None].to(device), there).cpu()
    torch.testing.assert_close(out, antialiased(picture, place[None], found))
    assert float(out[0, 1, 1, 0]) == pytest.approx(3.0)


def test_nothing_is_found_in_nothing(device: torch.device) -> None:
    from roundview.surface.antialias_triton import antialiased_triton  # noqa: PLC0415  may be absent

    empty = Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64))
    _, found = crossings(empty, cameras(2, (3, 4)), device)
    assert len(found.first) == 0
    there = Crossings(*(part.to(device) for part in found))
    picture = torch.rand(2, 3, 4, 3, generator=torch.Generator().manual_seed(0))
    out = antialiased_triton(picture.to(device), torch.zeros(2, 0, 2).to(device), there)
    assert torch.equal(out.cpu(), picture)
    none = picture[:0].to(device)
    assert antialiased_triton(none, torch.zeros(0, 0, 2).to(device), there).shape == (0, 3, 4, 3)


@pytest.mark.parametrize("textured", [False, True])
def test_a_mesh_on_a_gpu_is_drawn_by_these_kernels(
    textured: bool, monkeypatch: pytest.MonkeyPatch, device: torch.device
) -> None:
    plain, seen_by = ball(8), cameras(2, (18, 14), radius=1.2)
    rng = torch.Generator().manual_seed(0)
    uv, texels = (
        torch.rand(len(plain.vertices), 2, generator=rng),
        torch.rand(6, 5, 3, generator=rng),
    )
    weight = torch.randn(2, 18, 14, 3, generator=rng)
    results = []
    for where, gpu in ((torch.device("cpu"), False), (device, True)):
        with monkeypatch.context() as patch:
            if gpu and where.type == "cpu":  # The interpreter's arrays lie on the CPU.
                for module in (raster, antialias_render):
                    patch.setattr(module, "has_kernels", lambda _: True)
            vertices = plain.vertices.to(where).requires_grad_()
            colours = (texels if textured else plain.vertices.abs()).to(where).requires_grad_()
            faces = plain.faces.to(where)
            if textured:
                mesh = Mesh(vertices, faces, uv.to(where), Texture(colours))
            else:
                mesh = Mesh(vertices, faces, vertex_rgb=colours)
            views = render_mesh_antialiased(mesh, seen_by.to(where), geometry=True)
            assert views.depth is not None
            grads = torch.autograd.grad((views.rgb * weight.to(where)).sum(), [vertices, colours])
        found = [views.rgb, views.alpha, views.depth, *grads]
        results.append([one.detach().cpu() for one in found])
    for ours, theirs in zip(*results, strict=True):
        # Both place pixels in float32, each in its own order.
        close = torch.isclose(theirs, ours, rtol=1e-3, atol=1e-3)
        assert float(close.double().mean()) > 0.99
    assert float(results[1][3].abs().max()) > 0.1
