"""Sixteen numbers as one value, against numpy."""

import numpy as np
from numba import njit

from roundview.splat import lanes_numba as lanes

START = np.uint64(3)


@njit
def _computed(values: np.ndarray, out: np.ndarray) -> tuple[float, bool, int]:
    a, b = lanes.load(values, START), lanes.load(values, START + np.uint64(16))
    above = (a > b) | (lanes.spread(np.float32(0.9)) < a)
    chosen = lanes.pick(above & (b >= lanes.spread(np.float32(0.1))), lanes.root(a), -b / a)
    lanes.store(out, np.uint64(1), chosen * a + b - lanes.size(-a))
    lanes.store(out, np.uint64(17), lanes.evens(a, b) + lanes.odds(a, b))
    lanes.store(out, np.uint64(33), lanes.zipped(a, b) - lanes.swapped(a, a))
    return lanes.total(a), lanes.any_of(a > b), lanes.bits_of(above)


def test_lanes_do_what_numpy_does() -> None:
    values = np.random.default_rng(0).uniform(0.05, 1.0, 40).astype(np.float32)
    out = np.zeros(50, np.float32)
    total, some, bits = _computed(values, out)
    a, b = values[3:19], values[19:35]
    above = (a > b) | (a > 0.9)
    chosen = np.where(above & (b >= 0.1), np.sqrt(a), -b / a)
    both = np.concatenate([a, b])
    zipped = np.stack([a[:8], b[:8]], axis=1).ravel()
    np.testing.assert_allclose(out[1:17], chosen * a + b - a, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(out[17:33], both[::2] + both[1::2], rtol=1e-6)
    np.testing.assert_allclose(out[33:49], zipped - np.roll(a, 8), rtol=1e-5, atol=1e-6)
    assert out[0] == out[49] == 0
    np.testing.assert_allclose(total, a.sum(), rtol=1e-6)
    assert some == bool((a > b).any())
    assert bits == sum(1 << lane for lane in range(16) if above[lane])
