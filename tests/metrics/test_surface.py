import math
from dataclasses import astuple, replace

import numpy as np
import pytest
import torch
import trimesh
from fakes import block
from torch import Generator

from roundview.mesh import Mesh
from roundview.metrics.surface import (
    DISTANCE_OF_NOTHING,
    chamfer,
    chamfer_of_depth,
    f_score,
    normal_consistency,
    sample_surface,
    surface_marks,
    volume_iou,
)

NOTHING = Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64))


def rng() -> Generator:
    return torch.Generator().manual_seed(0)


def sphere(radius: float, *, x: float = 0.0, y: float = 0.0) -> Mesh:
    """1,280 faces, their corners on the sphere."""
    ball = trimesh.creation.icosphere(subdivisions=3, radius=radius)
    vertices = torch.tensor(np.asarray(ball.vertices), dtype=torch.float32)
    return Mesh(vertices + torch.tensor([x, y, 0.0]), torch.tensor(np.asarray(ball.faces)))


def square(height: float, side: float = 1.0) -> Mesh:
    """Two triangles at z = height, facing +Z."""
    corner = torch.tensor([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]]) * side
    vertices = torch.cat([corner, torch.full((4, 1), height)], dim=1)
    return Mesh(vertices, torch.tensor([[0, 1, 2], [0, 2, 3]]))


def test_one_sphere_inside_another_is_the_difference_of_radii_away() -> None:
    inner, outer = sphere(0.4), sphere(0.5)
    # Facets lie up to 0.4% of the radius inside the sphere.
    assert chamfer(inner, outer, rng(), samples=4000) == pytest.approx(0.1, abs=5e-4)
    # (Points seen, with their spacing of about a voxel, 0.01: sqrt(0.1^2 + 0.004^2) at the most.)
    assert chamfer_of_depth(inner, outer) == pytest.approx(0.1, abs=2e-3)
    assert volume_iou(inner, outer) == pytest.approx(0.8**3, abs=0.01)
    # Whatever is nearest lies on the same ray from the middle.
    assert normal_consistency(inner, outer, rng(), samples=4000) == pytest.approx(1.0, abs=5e-3)


def test_overlap_of_two_spheres_side_by_side_is_the_lens() -> None:
    radius, apart = 0.4, 0.3
    lens = math.pi * (4 * radius + apart) * (2 * radius - apart) ** 2 / 12
    ball = 4 / 3 * math.pi * radius**3
    first, second = sphere(radius, x=-apart / 2), sphere(radius, x=apart / 2)
    expected = lens / (2 * ball - lens)
    assert volume_iou(first, second) == pytest.approx(expected, abs=0.01)
    # A finer grid comes closer.
    assert volume_iou(first, second, resolution=128) == pytest.approx(expected, abs=0.003)


def test_a_mesh_against_itself_is_perfect() -> None:
    marks = surface_marks(block(), block(), rng(), samples=2000)
    assert marks.chamfer_depth == 0.0
    assert marks.chamfer == pytest.approx(0.0, abs=1e-7)
    assert (marks.f_score_001, marks.f_score_002, marks.volume_iou) == (1.0, 1.0, 1.0)
    assert marks.normal_consistency == pytest.approx(1.0, abs=1e-6)


def test_an_empty_mesh_gets_the_worst_marks_and_another_empty_one_the_best() -> None:
    worst = (DISTANCE_OF_NOTHING, DISTANCE_OF_NOTHING, 0.0, 0.0, 0.0, 0.0)
    best = (0.0, 0.0, 1.0, 1.0, 1.0, 1.0)
    assert astuple(surface_marks(NOTHING, block(), rng(), samples=100)) == worst
    assert astuple(surface_marks(block(), NOTHING, rng(), samples=100)) == worst
    assert astuple(surface_marks(NOTHING, NOTHING, rng(), samples=100)) == best


def test_parallel_squares_are_as_far_apart_as_they_are() -> None:
    near, far = square(0.0), square(0.015)
    assert chamfer(near, far, rng(), samples=500) == pytest.approx(0.015, abs=1e-6)
    assert f_score(near, far, rng(), within=0.01, samples=500) == 0.0
    assert f_score(near, far, rng(), within=0.02, samples=500) == 1.0
    assert normal_consistency(near, far, rng(), samples=500) == pytest.approx(1.0)


def test_f_score_is_the_harmonic_mean_of_precision_and_recall() -> None:
    # All of the small square lies on the large one; a quarter of the large one on the small one,
    # and a rim of 0.01 round it: (0.5 + 0.02)^2 without the corners' outsides.
    recall = 0.52**2 - (4 - math.pi) * 0.01**2
    expected = 2 * recall / (1 + recall)
    got = f_score(square(0.0, 0.5), square(0.0), rng(), within=0.01, samples=20_000)
    assert got == pytest.approx(expected, abs=0.01)
    with pytest.raises(ValueError, match="within"):
        f_score(square(0.0), square(0.0), rng(), within=0.0)


def test_faces_that_look_the_other_way_and_holes_change_little() -> None:
    truth = block()
    turned = replace(truth, faces=truth.faces.flip(1))
    assert volume_iou(turned, truth) == 1.0
    # All but the few samples so near an edge that rounding lets them belong to either side.
    assert normal_consistency(turned, truth, rng(), samples=500) > 0.99
    # One of twelve triangles missing: inside is still where most of the surface is round.
    assert volume_iou(replace(truth, faces=truth.faces[1:]), truth) > 0.9


def test_what_no_camera_sees_counts_on_the_surface_only() -> None:
    shell, core = sphere(0.5), sphere(0.25)
    both = Mesh(
        torch.cat([shell.vertices, core.vertices]),
        torch.cat([shell.faces, core.faces + len(shell.vertices)]),
    )
    assert chamfer_of_depth(both, shell) == 0.0
    # A fifth of the area (1 / (4 + 1)) is 0.25 away, one way of two.
    assert chamfer(both, shell, rng(), samples=4000) == pytest.approx(0.025, abs=1e-3)


def test_samples_are_spread_by_area_and_lie_on_their_faces() -> None:
    # Areas of 3 to 1: the strata leave no room for luck.
    vertices = torch.tensor([[0.0, 0, 0], [3, 0, 0], [0, 2, 0], [0, 0, 1], [2, 0, 1], [0, 1, 1]])
    mesh = Mesh(vertices, torch.tensor([[0, 1, 2], [3, 4, 5]]))
    drawn = sample_surface(mesh, 400, rng())
    assert int((drawn.face == 0).sum()) == 300
    on_first = drawn.points[drawn.face == 0]
    assert float(on_first[:, 2].abs().max()) == 0.0
    assert float((on_first[:, 0] / 3 + on_first[:, 1] / 2).max()) <= 1 + 1e-6
    # The middle of a triangle is that of its corners.
    torch.testing.assert_close(
        on_first.mean(dim=0), torch.tensor([1.0, 2 / 3, 0.0]), rtol=0, atol=0.1
    )
    assert len(sample_surface(NOTHING, 10, rng()).points) == 0


def test_distances_agree_with_trimesh() -> None:
    first, second = block(0.4, 0.9, 0.3), sphere(0.45)
    theirs = []
    for mesh, other in ((first, second), (second, first)):
        points = sample_surface(mesh, 300, torch.Generator().manual_seed(7)).points.numpy()
        target = trimesh.Trimesh(other.vertices.numpy(), other.faces.numpy(), process=False)
        theirs.append(trimesh.proximity.closest_point_naive(target, points)[1].mean())
    ours = chamfer(first, second, rng(), samples=4000)
    assert ours == pytest.approx(sum(theirs) / 2, rel=0.03)  # Of 300 points, drawn otherwise.


def test_overlap_agrees_with_trimesh() -> None:
    first, second = block(0.4, 0.9, 0.3), sphere(0.3, y=0.1)
    box = trimesh.creation.box(extents=(0.4, 0.9, 0.3))
    ball = trimesh.Trimesh(second.vertices.numpy(), second.faces.numpy())
    common = float(trimesh.boolean.intersection([box, ball]).volume)
    expected = common / (float(box.volume) + float(ball.volume) - common)
    assert volume_iou(first, second, resolution=128) == pytest.approx(expected, abs=0.01)
