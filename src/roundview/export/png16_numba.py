"""CPU kernel of `png16`: undo the two row filters that go byte by byte."""

# numba infers the types of kernels.
# pyright: reportMissingParameterType=false

import numpy as np

from ..kernels import njit


def unfiltered_row_kernel(kind: int, body: np.ndarray, above: np.ndarray, step: int) -> np.ndarray:
    """Undo "average" (3) or "Paeth" (4) as `png16.unfiltered_row_reference` does."""
    out = np.empty(len(body), np.uint8)
    _undo(kind, np.ascontiguousarray(body), np.ascontiguousarray(above), step, out)
    return out


@njit
def _undo(kind, body, above, step, out):  # noqa: ANN001, ANN202
    for i in range(len(body)):
        a = np.int64(out[i - step]) if i >= step else np.int64(0)
        b = np.int64(above[i])
        c = np.int64(above[i - step]) if i >= step else np.int64(0)
        if kind == 3:
            guess = (a + b) // 2
        else:
            to_a, to_b, to_c = abs(b - c), abs(a - c), abs(a + b - 2 * c)
            guess = a if to_a <= to_b and to_a <= to_c else (b if to_b <= to_c else c)
        out[i] = np.uint8((np.int64(body[i]) + guess) & 255)
