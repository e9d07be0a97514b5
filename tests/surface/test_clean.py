import numpy as np
import pytest
import torch
from torch import Tensor

from roundview.mesh import Mesh, mesh_health
from roundview.surface.clean import (
    Cleaning,
    clean_mesh,
    keep_largest_components,
    remove_inner_shells,
    smooth,
)
from roundview.surface.decimate import TooManyTunnels, decimate
from roundview.surface.isosurface import mesh_from_density

CUBE_CORNERS = torch.tensor([[x, y, z] for x in (0.0, 1.0) for y in (0.0, 1.0) for z in (0.0, 1.0)])
CUBE_FACES = torch.tensor(
    [
        *([0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1]),
        *([2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]),
    ]
)


def cube(size: float = 1.0, shift: float = 0.0, *, inside_out: bool = False) -> Mesh:
    faces = CUBE_FACES.flip(1) if inside_out else CUBE_FACES
    return Mesh((CUBE_CORNERS - 0.5) * size + shift, faces)


def together(*parts: Mesh) -> Mesh:
    offsets = np.cumsum([0] + [len(part.vertices) for part in parts])
    return Mesh(
        torch.cat([part.vertices for part in parts]),
        torch.cat([part.faces + int(o) for part, o in zip(parts, offsets, strict=False)]),
    )


def ball(radius: float = 0.4, resolution: int = 24) -> Mesh:
    def inside(points: Tensor) -> Tensor:
        return radius - points.norm(dim=-1)

    return mesh_from_density(inside, level=0.0, half_width=0.5, resolution=resolution)


def volume(mesh: Mesh) -> float:
    a, b, c = mesh.vertices[mesh.faces].double().unbind(1)
    return float((a * torch.linalg.cross(b, c)).sum() / 6)


def test_cube_of_this_file_is_sound() -> None:
    assert mesh_health(cube()).watertight
    assert volume(cube()) == pytest.approx(1.0)


def test_crumbs_go_and_large_parts_stay() -> None:
    mesh = together(cube(), cube(0.9, 3.0), cube(0.05, -2.0))
    kept = keep_largest_components(mesh, min_fraction=0.1)
    assert mesh_health(kept).shells == 2
    assert volume(kept) == pytest.approx(1 + 0.9**3)
    assert mesh_health(keep_largest_components(mesh, min_fraction=1.0)).shells == 1


def test_share_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="min_fraction"):
        keep_largest_components(cube(), min_fraction=2.0)


def test_cavity_and_what_floats_in_it_go() -> None:
    mesh = together(cube(0.2), cube(0.6, inside_out=True), cube())
    solid = remove_inner_shells(mesh)
    assert len(solid.faces) == 12
    assert volume(solid) == pytest.approx(1.0)


def test_parts_side_by_side_both_stay_and_face_outward() -> None:
    mesh = remove_inner_shells(together(cube(), cube(0.5, 2.0, inside_out=True)))
    assert volume(mesh) == pytest.approx(1.125)


def test_smoothing_takes_noise_and_leaves_volume() -> None:
    mesh = ball(resolution=40)
    noise = torch.randn(mesh.vertices.shape, generator=torch.Generator().manual_seed(0)) * 0.003
    rough = Mesh(mesh.vertices + noise, mesh.faces)
    fair = smooth(rough, rounds=10)

    def off(m: Mesh) -> float:
        return float((m.vertices.norm(dim=-1) - 0.4).abs().mean())

    assert off(fair) < 0.5 * off(rough)
    assert volume(fair) == pytest.approx(volume(mesh), rel=0.01)


def test_no_rounds_change_nothing() -> None:
    assert volume(smooth(cube(), rounds=0)) == pytest.approx(1.0)


def test_texture_seams_are_joined() -> None:
    corners = cube().vertices[CUBE_FACES].reshape(-1, 3)
    soup = Mesh(corners, torch.arange(36).reshape(12, 3))
    assert mesh_health(smooth(soup, rounds=0)).vertices == 8


def test_empty_mesh_stays_empty() -> None:
    empty = Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64))
    for verb in (remove_inner_shells, keep_largest_components, smooth):
        assert len(verb(empty).faces) == 0
    with pytest.raises(ValueError, match="survives"):
        clean_mesh(empty)


def test_hollow_noisy_ball_becomes_one_closed_solid() -> None:
    rng = torch.Generator().manual_seed(3)
    noise = torch.randn(40, 40, 40, generator=rng) * 0.004
    axis = torch.linspace(-0.5, 0.5, 40)
    radius = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).norm(dim=0)
    shell = 0.05 - (radius - 0.35).abs() + noise
    shell[2:4, 2:4, 2:4] = 0.01  # A crumb in a corner.
    mesh = clean_mesh(
        mesh_from_density(shell, level=0.0, half_width=0.5), Cleaning(faces=2000, smoothing=5)
    )
    health = mesh_health(mesh)
    assert health.watertight
    assert health.shells == 1
    assert health.faces == 2000
    assert health.non_manifold_edges == 0
    assert volume(mesh) == pytest.approx(4 / 3 * np.pi * 0.4**3, rel=0.05)


def test_a_sponge_loses_its_tunnels_where_the_budget_has_no_room_for_them() -> None:
    axis = torch.linspace(-1, 1, 40)
    x, y, z = torch.meshgrid(axis, axis, axis, indexing="ij")
    holes = torch.cos(9 * x) * torch.cos(9 * y) - 0.85
    plate = torch.minimum(0.9 - torch.maximum(x.abs(), y.abs()), 0.3 - z.abs())
    sponge = mesh_from_density(torch.minimum(plate, -holes), level=0.0, half_width=1.0)
    before = mesh_health(sponge)
    assert len(sponge.vertices) - len(sponge.faces) // 2 == -24  # Euler: 13 fine tunnels.
    with pytest.raises(TooManyTunnels, match="only to"):
        decimate(sponge, 50)
    small = clean_mesh(sponge, Cleaning(faces=50, smoothing=0))
    health = mesh_health(small)
    assert before.watertight
    assert len(small.faces) <= 50
    assert health.watertight
    assert health.degenerate_faces == 0
