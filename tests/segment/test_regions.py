"""Regions, distances and means, worked by hand."""

import numpy as np

from roundview.segment.regions import box_mean, label, nearest


def test_corners_connect_only_if_asked() -> None:
    region = np.array([[1, 0, 0], [0, 1, 1]], bool)
    assert label(region)[1] == 2
    parts, count = label(region, corners=True)
    assert count == 1
    assert parts.tolist() == [[1, 0, 0], [0, 1, 1]]


def test_nearest_gives_distance_and_place() -> None:
    distance, rows, columns = nearest(np.array([[0, 0, 0, 1], [0, 0, 0, 0]], bool))
    assert distance[0].tolist() == [3, 2, 1, 0]
    assert (rows == 0).all()
    assert (columns == 3).all()


def test_box_mean_is_a_mean_over_a_square() -> None:
    one = np.zeros((5, 5, 2), np.float32)
    one[2, 2] = 9.0
    mean = box_mean(one, 1)
    assert mean.dtype == np.float32
    np.testing.assert_allclose(mean[1:4, 1:4], 1.0, rtol=1e-6)
    assert abs(mean[0]).max() < 1e-6
    np.testing.assert_allclose(box_mean(np.full((4, 4), 0.3, np.float32), 6), 0.3, rtol=1e-6)
