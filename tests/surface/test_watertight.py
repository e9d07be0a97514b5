from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from roundview.mesh import Mesh, mesh_health, vertex_normals
from roundview.surface.isosurface import mesh_from_density
from roundview.surface.watertight import remeshed, watertight_mesh


def ball(points: Tensor) -> Tensor:
    return 0.4 - points.norm(dim=-1)


def ring(points: Tensor) -> Tensor:
    return 0.13 - torch.hypot(torch.hypot(points[:, 0], points[:, 2]) - 0.3, points[:, 1])


def brick(points: Tensor) -> Tensor:
    return (torch.tensor([0.4, 0.2, 0.3]) - points.abs()).amin(-1)


def drawn(shape: str) -> Mesh:
    inside = {"ball": ball, "ring": ring, "brick": brick}[shape]
    return mesh_from_density(inside, level=0.0, half_width=0.5, resolution=24)


def together(*parts: Mesh) -> Mesh:
    count = [0]
    for part in parts:
        count.append(count[-1] + len(part.vertices))
    return Mesh(
        torch.cat([part.vertices for part in parts]),
        torch.cat([part.faces + n for part, n in zip(parts, count, strict=False)]),
    )


def moved(mesh: Mesh, shift: float, scale: float = 1.0) -> Mesh:
    return Mesh(mesh.vertices * scale + shift, mesh.faces)


def volume(mesh: Mesh) -> float:
    a, b, c = mesh.vertices[mesh.faces].double().unbind(1)
    return float((a * torch.linalg.cross(b, c)).sum() / 6)


def punched(mesh: Mesh) -> Mesh:
    middle = mesh.vertices[mesh.faces].mean(dim=1)
    away = torch.cdist(middle, middle[[5, len(middle) // 3, len(middle) - 9]]).amin(dim=1)
    return Mesh(mesh.vertices, mesh.faces[away > 0.06])


def peppered(mesh: Mesh) -> Mesh:
    keep = torch.rand(len(mesh.faces), generator=torch.Generator().manual_seed(2)) > 0.03
    return Mesh(mesh.vertices, mesh.faces[keep])


def doubled(mesh: Mesh) -> Mesh:
    return together(mesh, moved(mesh, 0.003))


def hollow(mesh: Mesh) -> Mesh:
    skin = Mesh(mesh.vertices - 0.05 * vertex_normals(mesh), mesh.faces.flip(1))
    return together(mesh, skin, moved(mesh, 3.0, 0.05))


def turned(mesh: Mesh) -> Mesh:
    some = torch.rand(len(mesh.faces), generator=torch.Generator().manual_seed(4)) < 0.4
    return Mesh(mesh.vertices, torch.where(some[:, None], mesh.faces.flip(1), mesh.faces))


@pytest.mark.parametrize("shape", ["ball", "ring", "brick"])
@pytest.mark.parametrize("damage", [punched, peppered, doubled, hollow, turned])
def test_damaged_mesh_becomes_one_closed_shell_of_its_size(
    shape: str, damage: Callable[[Mesh], Mesh]
) -> None:
    shell = watertight_mesh(damage(drawn(shape)), resolution=48)
    health = mesh_health(shell)
    assert health.watertight
    assert (health.shells, health.degenerate_faces, health.non_manifold_edges) == (1, 0, 0)
    # The doubled brick is 0.003 wider on three sides.
    assert volume(shell) == pytest.approx(volume(drawn(shape)), rel=0.05)


def test_whole_mesh_keeps_its_surface() -> None:
    shell = watertight_mesh(drawn("ball"))
    assert volume(shell) == pytest.approx(volume(drawn("ball")), rel=1e-4)


def test_parts_that_overlap_become_one_by_union() -> None:
    shell = watertight_mesh(together(drawn("ball"), moved(drawn("ball"), 0.2)))
    assert mesh_health(shell).shells == 1
    # Two balls of 0.4 whose middles are 0.35 apart share a lens.
    gap = 0.2 * 3**0.5
    lens = torch.pi * (4 * 0.4 + gap) * (2 * 0.4 - gap) ** 2 / 12
    assert volume(shell) == pytest.approx(2 * volume(drawn("ball")) - lens, rel=0.02)


@pytest.mark.parametrize("shape", ["ball", "brick"])
def test_grid_finds_the_shape_again(shape: str) -> None:
    shell = remeshed(moved(drawn(shape), 2.0), resolution=48)
    health = mesh_health(shell)
    assert (health.watertight, health.shells) == (True, 1)
    assert volume(shell) == pytest.approx(volume(drawn(shape)), rel=0.02)
    middle = shell.vertices.mean(dim=0)
    torch.testing.assert_close(middle, torch.full((3,), 2.0), atol=0.01, rtol=0)


def test_grid_takes_over_where_a_surface_cuts_through_itself() -> None:
    # One connected tube that crosses itself, closed: a ring squeezed into a figure of eight.
    ring_mesh = drawn("ring")
    angle = torch.atan2(ring_mesh.vertices[:, 2], ring_mesh.vertices[:, 0])
    bent = ring_mesh.vertices.clone()
    bent[:, 2] = bent[:, 2] * angle.cos() + 0.01 * angle.sin()
    shell = watertight_mesh(Mesh(bent, ring_mesh.faces), resolution=48)
    health = mesh_health(shell)
    assert (health.watertight, health.shells) == (True, 1)
    assert volume(shell) > 0


def test_nothing_to_enclose_is_refused() -> None:
    empty = Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="encloses nothing"):
        watertight_mesh(empty)
    with pytest.raises(ValueError, match="resolution"):
        remeshed(drawn("ball"), resolution=4)
