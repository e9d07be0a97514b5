import os
import time
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree
from torch import Tensor

from roundview.mesh import Mesh, mesh_health
from roundview.surface.isosurface import mesh_from_density
from roundview.surface.texels import texels_of
from roundview.surface.unwrap import unwrap, uv_use


def ball(resolution: int = 20) -> Mesh:
    def inside(points: Tensor) -> Tensor:
        return 0.4 - points.norm(dim=-1)

    return mesh_from_density(inside, level=0.0, half_width=0.5, resolution=resolution)


@pytest.mark.parametrize("method", ["charts", "xatlas"])
def test_layout_covers_much_and_nothing_twice(method: Literal["charts", "xatlas"]) -> None:
    mesh = unwrap(ball(), texture_size=512, method=method)
    assert mesh.uv is not None
    assert float(mesh.uv.min()) >= 0
    assert float(mesh.uv.max()) <= 1
    used, overlap = uv_use(mesh, size=512)
    assert used > 0.5
    assert overlap < 1e-3


@pytest.mark.parametrize(("size", "gutter_px"), [(256, 4), (1024, 8)])
def test_charts_keep_their_distance(size: int, gutter_px: int) -> None:
    mesh = unwrap(ball(), texture_size=size)
    texels = texels_of(mesh, size)
    inside = (texels.bary > 0).all(dim=-1)  # The rest is on the rim that texels_of adds.
    chart = charts_of(mesh)[texels.face[inside]].numpy()
    at = texels.at[inside].numpy()
    assert chart.max() >= 3
    for one in range(chart.max() + 1):
        others = KDTree(at[chart != one])
        # Half a texel on either side: centres may lie that far inside their charts.
        assert others.query(at[chart == one])[0].min() >= gutter_px - 0.5


def charts_of(mesh: Mesh) -> Tensor:
    """Number the parts that share vertices; on a seam vertices are repeated."""
    at = mesh.faces.numpy()
    links = coo_matrix((np.ones(2 * len(at)), (at[:, [0, 0]].ravel(), at[:, [1, 2]].ravel())))
    links.resize(len(mesh.vertices), len(mesh.vertices))
    label = connected_components(links, directed=False)[1]
    return torch.from_numpy(label[at[:, 0]].astype(np.int64))


def test_surface_stays_as_it_was() -> None:
    before, after = ball(), unwrap(ball(), texture_size=128)
    assert torch.equal(before.vertices[before.faces], after.vertices[after.faces])
    assert mesh_health(after).watertight
    assert len(after.vertices) > len(before.vertices)


def test_same_mesh_gets_the_same_coordinates() -> None:
    first, second = unwrap(ball(), texture_size=128), unwrap(ball(), texture_size=128)
    assert first.uv is not None
    assert second.uv is not None
    assert torch.equal(first.uv, second.uv)
    assert torch.equal(first.faces, second.faces)


def test_seams_of_an_earlier_unwrapping_are_forgotten() -> None:
    once = unwrap(ball(), texture_size=128)
    twice = unwrap(once, texture_size=128)
    assert len(twice.vertices) == len(once.vertices)


def test_xatlas_that_hangs_is_killed_and_replaced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    note = tmp_path / "process"
    hang = f"""
import os, pathlib, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path({str(note)!r}).write_text(str(os.getpid()))
time.sleep(600)
"""
    monkeypatch.setattr("roundview.surface.unwrap._XATLAS", hang)
    begin = time.monotonic()
    with pytest.warns(UserWarning, match="stopped after 2 s; using our own charts"):
        mesh = unwrap(ball(), texture_size=64, timeout_s=2.0, method="xatlas")
    assert time.monotonic() - begin < 300
    assert uv_use(mesh, size=64)[0] > 0.2
    # The process is gone, though it would not listen to a polite request.
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)


def test_xatlas_that_fails_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roundview.surface.unwrap._XATLAS", "raise SystemExit(3)")
    with pytest.warns(UserWarning, match="status 3; using our own charts"):
        mesh = unwrap(ball(), texture_size=64, method="xatlas")
    assert uv_use(mesh, size=64)[0] > 0.2


def test_xatlas_that_answers_nonsense_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roundview.surface.unwrap._XATLAS", "print('nonsense')")
    with pytest.warns(UserWarning, match="our own charts"):
        mesh = unwrap(ball(), texture_size=64, method="xatlas")
    assert uv_use(mesh, size=64)[0] > 0.2


@pytest.mark.parametrize("method", ["charts", "xatlas"])
def test_charts_are_hardly_stretched(method: Literal["charts", "xatlas"]) -> None:
    mesh = unwrap(ball(), texture_size=256, method=method)
    # A fifth of the surface at most may be drawn more than 1.5 times as long one way as the other.
    assert float(stretch_of(mesh).quantile(0.8)) < 1.5
    assert float(stretch_of(mesh).max()) < 13


def stretch_of(mesh: Mesh) -> Tensor:
    """How many times longer a face is drawn one way than the other: the singular values' ratio."""
    assert mesh.uv is not None
    corner, flat = mesh.vertices[mesh.faces].double(), mesh.uv[mesh.faces].double()
    along, other = corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]
    length = along.norm(dim=-1)
    share = (other * along).sum(-1) / length
    height = (other - share[:, None] * along / length[:, None]).norm(dim=-1)
    plane = torch.stack(
        [torch.stack([length, share], -1), torch.stack([torch.zeros_like(share), height], -1)], 1
    )
    uv = torch.stack([flat[:, 1] - flat[:, 0], flat[:, 2] - flat[:, 0]], dim=-1)
    solid = height * length > 1e-7
    value = torch.linalg.svdvals(uv[solid] @ torch.linalg.inv(plane[solid]))
    return value[:, 0] / value[:, 1]


def test_two_copies_of_a_triangle_are_found_to_overlap() -> None:
    corner = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    uv = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    twice = Mesh(corner.repeat(2, 1), torch.arange(6).reshape(2, 3), uv.repeat(2, 1))
    used, overlap = uv_use(twice, size=64)
    assert used == pytest.approx(0.5, abs=0.02)
    assert overlap == 1.0


def test_bad_input_is_refused() -> None:
    empty = Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="without faces"):
        unwrap(empty)
    with pytest.raises(ValueError, match="texture_size"):
        unwrap(ball(8), texture_size=4)
    with pytest.raises(ValueError, match="unwrap first"):
        uv_use(ball(8))
