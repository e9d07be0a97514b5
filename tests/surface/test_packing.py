import numpy as np
import pytest

from roundview.surface.charts_numba import coverage_kernel
from roundview.surface.packing import packed


def rectangles(sizes: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    flat = []
    for w, h in sizes:
        flat += [[[0, 0], [w, 0], [w, h]], [[0, 0], [w, h], [0, h]]]
    return np.array(flat, np.float64), np.repeat(np.arange(len(sizes)), 2)


def boxes(corners: np.ndarray, chart: np.ndarray) -> np.ndarray:
    """Left, top, right, bottom of each chart."""
    count = int(chart.max()) + 1
    return np.stack(
        [
            np.concatenate(
                [corners[chart == c].min(axis=(0, 1)), corners[chart == c].max(axis=(0, 1))]
            )
            for c in range(count)
        ]
    )


def random_sizes(count: int, seed: int = 0) -> list[tuple[float, float]]:
    rng = np.random.default_rng(seed)
    return [tuple(pair) for pair in rng.uniform(0.05, 1.0, (count, 2)).tolist()]


@pytest.mark.parametrize(("count", "size"), [(1, 16), (2, 64), (40, 256), (40, 1100), (300, 512)])
def test_charts_stay_inside_and_a_gutter_apart(count: int, size: int) -> None:
    flat, chart = rectangles(random_sizes(count))
    corners = packed(flat, chart, size=size, gutter_px=4)
    box = boxes(corners, chart)
    assert (box[:, :2] >= 2 - 1e-3).all()
    assert (box[:, 2:] <= size - 2 + 1e-3).all()
    gap = np.maximum(box[:, None, :2] - box[None, :, 2:], box[None, :, :2] - box[:, None, 2:])
    apart = np.linalg.norm(gap.clip(min=0), axis=-1)[~np.eye(count, dtype=bool)]
    assert (apart >= 4 - 1e-3).all()


def test_all_charts_keep_one_scale_and_their_handedness() -> None:
    flat, chart = rectangles(random_sizes(12))
    corners = packed(flat, chart, size=256, gutter_px=2)

    def doubled(c: np.ndarray) -> np.ndarray:
        first, second = c[:, 1] - c[:, 0], c[:, 2] - c[:, 0]
        return first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]

    ratio = doubled(corners) / doubled(flat)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-5)
    assert ratio[0] > 0


def test_small_charts_land_in_hollows() -> None:
    # A frame of four bars in one chart, and squares that fit into it.
    bars = [((0, 0), (10, 1)), ((0, 9), (10, 10)), ((0, 0), (1, 10)), ((9, 0), (10, 10))]
    frame = []
    for (x0, y0), (x1, y1) in bars:
        frame += [[[x0, y0], [x1, y0], [x1, y1]], [[x0, y0], [x1, y1], [x0, y1]]]
    squares, number = rectangles([(3.0, 3.0)] * 4)
    flat = np.concatenate([np.array(frame, np.float64), squares])
    chart = np.concatenate([np.zeros(8, np.int64), number + 1])
    box = boxes(packed(flat, chart, size=256, gutter_px=2), chart)
    assert (box[1:, :2] > box[0, :2]).all()
    assert (box[1:, 2:] < box[0, 2:]).all()


def test_rectangles_fill_most_of_the_texture() -> None:
    flat, chart = rectangles(random_sizes(60))
    corners = packed(flat, chart, size=512, gutter_px=2)
    assert (coverage_kernel(corners.astype(np.float32), 512) > 0).mean() > 0.6


def test_too_many_charts_are_refused() -> None:
    flat, chart = rectangles([(1.0, 1.0)] * 100)
    with pytest.raises(ValueError, match="100 charts"):
        packed(flat, chart, size=16, gutter_px=4)
