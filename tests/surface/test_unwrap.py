import subprocess
from typing import Literal

import pytest
import torch
from torch import Tensor

from roundview.mesh import Mesh, mesh_health
from roundview.surface.isosurface import mesh_from_density
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


def test_xatlas_that_hangs_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def hang(*_: object, timeout: float, **__: object) -> None:
        asked.append(timeout)
        raise subprocess.TimeoutExpired("xatlas", timeout)

    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.warns(UserWarning, match="our own charts"):
        mesh = unwrap(ball(), texture_size=64, timeout_s=0.5, method="xatlas")
    assert asked == [0.5]
    assert uv_use(mesh, size=64)[0] > 0.2


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
