import numpy as np
import pytest
import torch
from torch import Tensor

from roundview.surface.charts import cut_into_charts, flattened
from roundview.surface.charts_numba import coverage_kernel, overlapping_kernel
from roundview.surface.isosurface import mesh_from_density

CORNERS = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], np.float64)
CUBE = np.array(
    [
        *([0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1]),
        *([2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]),
    ]
)


def surface(kind: str) -> tuple[np.ndarray, np.ndarray]:
    def ball(p: Tensor) -> Tensor:
        return 0.4 - p.norm(dim=-1)

    def ring(p: Tensor) -> Tensor:
        return 0.12 - torch.stack([p[:, :2].norm(dim=-1) - 0.3, p[:, 2]], dim=-1).norm(dim=-1)

    def bumpy(p: Tensor) -> Tensor:
        return 0.35 - p.norm(dim=-1) + 0.03 * torch.sin(40 * p).prod(dim=-1)

    density = {"ball": ball, "ring": ring, "bumpy": bumpy}[kind]
    mesh = mesh_from_density(density, level=0.0, half_width=0.5, resolution=28)
    return mesh.vertices.double().numpy(), mesh.faces.numpy()


def spiral_ramp() -> tuple[np.ndarray, np.ndarray]:
    """Two turns of a ramp: every face looks up, yet the turns lie over one another."""
    angle = np.linspace(0, 4 * np.pi, 81)
    rim = [
        np.stack([r * np.cos(angle), r * np.sin(angle), 0.02 * angle], axis=1) for r in (0.3, 1.0)
    ]
    k = np.arange(80)
    faces = np.concatenate([np.stack([k, 81 + k, 82 + k], 1), np.stack([k, 82 + k, 1 + k], 1)])
    return np.concatenate(rim), faces


def test_cube_falls_into_its_six_sides() -> None:
    chart = cut_into_charts(CORNERS, CUBE)
    assert chart.max() == 5
    assert (chart.reshape(6, 2)[:, 0] == chart.reshape(6, 2)[:, 1]).all()


def test_flat_chart_keeps_its_shape_and_handedness() -> None:
    vertices = np.array([[0, 0, 1.0], [3, 0, 1], [3, 2, 1], [0, 2, 1]])
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    flat = flattened(vertices, faces, np.zeros(2, np.int64))
    # It stands on its short side, with its box's corner at the origin.
    np.testing.assert_allclose(flat.min(axis=(0, 1)), [0, 0], atol=1e-9)
    np.testing.assert_allclose(flat.max(axis=(0, 1)), [2, 3], atol=1e-9)
    first, second = flat[:, 1] - flat[:, 0], flat[:, 2] - flat[:, 0]
    # Counter-clockwise seen from outside is clockwise in signed (right, down) area: negative.
    np.testing.assert_allclose(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0], [-6, -6])


@pytest.mark.parametrize("kind", ["ball", "ring", "bumpy"])
def test_no_chart_folds_or_covers_itself(kind: str) -> None:
    vertices, faces = surface(kind)
    chart = cut_into_charts(vertices, faces, texels_across=300.0)
    assert (np.unique(chart) == np.arange(chart.max() + 1)).all()
    assert chart.max() + 1 < len(faces) / 20
    flat = flattened(vertices, faces, chart) * 300
    first, second = flat[:, 1] - flat[:, 0], flat[:, 2] - flat[:, 0]
    assert (first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0] <= 0).all()
    for index in range(chart.max() + 1):
        own = flat[chart == index].astype(np.float32)
        assert coverage_kernel(own, 512).max() <= 1


def test_ball_needs_few_charts_that_keep_its_area() -> None:
    vertices, faces = surface("ball")
    chart = cut_into_charts(vertices, faces)
    assert chart.max() + 1 <= 8
    flat = flattened(vertices, faces, chart)
    first, second = flat[:, 1] - flat[:, 0], flat[:, 2] - flat[:, 0]
    area = np.abs(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]).sum() / 2
    assert area == pytest.approx(4 * np.pi * 0.16, rel=0.02)


def test_spiral_ramp_is_cut_where_it_covers_itself() -> None:
    vertices, faces = spiral_ramp()
    chart = cut_into_charts(vertices, faces, texels_across=100.0)
    assert chart.max() >= 1
    for index in range(chart.max() + 1):
        flat = flattened(vertices, faces, chart)[chart == index] * 100
        assert coverage_kernel(flat.astype(np.float32), 256).max() <= 1


def test_face_without_area_does_no_harm() -> None:
    faces = np.concatenate([CUBE, [[0, 0, 1]]])
    chart = cut_into_charts(CORNERS, faces)
    assert len(chart) == 13
    assert np.isfinite(flattened(CORNERS, faces, chart)).all()


@pytest.mark.kernel
def test_overlap_is_found_within_a_chart_only() -> None:
    triangle = np.array([[0, 0], [8, 0], [0, 8]], np.float32)
    beside = np.array([[8, 0], [8, 8], [0, 8]], np.float32)
    flat = np.stack([triangle, beside, triangle, triangle])
    assert overlapping_kernel(flat, np.array([0, 0, 0, 1])).tolist() == [False, False, True, False]
