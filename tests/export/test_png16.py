"""Claims about sixteen-bit PNG, against Pillow where it can, and against filters done by hand."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image as Pillow

from roundview.export.png16 import (
    is_png16,
    png16_bytes,
    png16_values,
    unfiltered_row_reference,
)
from roundview.export.png16_numba import unfiltered_row_kernel


def random_levels(channels: int) -> np.ndarray:
    return np.random.default_rng(channels).integers(0, 65536, (6, 5, channels), dtype=np.uint16)


def filtered_png(levels: np.ndarray, kind: int) -> bytes:
    """Write a PNG whose every row has one filter, straight from the specification's formulas."""
    h, w, channels = levels.shape
    step = 2 * channels
    rows = levels.astype(">u2").view(np.uint8).reshape(h, w * step).astype(int)
    padded = np.pad(rows, ((1, 0), (step, 0)))
    a, b, c = padded[1:, :-step], padded[:-1, step:], padded[:-1, :-step]
    p = a + b - c
    distance = np.stack([abs(p - a), abs(p - b), abs(p - c)])
    paeth = np.choose(distance.argmin(axis=0), [a, b, c])
    guess = [0 * a, a, b, (a + b) // 2, paeth][kind]
    lines = np.pad((rows - guess) % 256, ((0, 0), (1, 0)), constant_values=kind).astype(np.uint8)
    whole = png16_bytes(levels)
    data = zlib.compress(lines.tobytes())
    body = b"IDAT" + data
    chunk = struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))
    return whole[:33] + chunk + whole[-12:]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_values_return(channels: int) -> None:
    levels = random_levels(channels)
    data = png16_bytes(levels)
    assert is_png16(data)
    np.testing.assert_array_equal(png16_values(data, max_pixels=100), levels)


def test_pillow_reads_the_same_grey() -> None:
    levels = random_levels(1)
    with Pillow.open(io.BytesIO(png16_bytes(levels))) as opened:
        np.testing.assert_array_equal(np.array(opened), levels[..., 0])


def test_pillow_accepts_the_colour_file() -> None:
    levels = random_levels(3)
    with Pillow.open(io.BytesIO(png16_bytes(levels))) as opened:
        np.testing.assert_array_equal(np.array(opened), levels >> 8)  # it keeps the high byte


@pytest.mark.parametrize("kind", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_row_filter_is_undone(kind: int, channels: int) -> None:
    levels = random_levels(channels)
    data = filtered_png(levels, kind)
    np.testing.assert_array_equal(png16_values(data, max_pixels=100), levels)


def test_broken_files_are_refused() -> None:
    data = png16_bytes(random_levels(3))
    for broken, message in [
        (data[:27], "header"),
        (data[:60], "truncated"),
        (data[:45] + b"\xff\xff\xff\xff" + data[49:], "broken"),
        (data[:28] + b"\x01" + data[29:], "interlaced"),
    ]:
        with pytest.raises(ValueError, match=message):
            png16_values(broken, max_pixels=100)
    with pytest.raises(ValueError, match="megapixels"):
        png16_values(data, max_pixels=29)


def test_other_files_are_not_taken_for_it() -> None:
    out = io.BytesIO()
    Pillow.new("RGB", (2, 2)).save(out, "PNG")
    assert not is_png16(out.getvalue())
    assert not is_png16(b"")


@pytest.mark.kernel
@pytest.mark.parametrize("kind", [3, 4])
@pytest.mark.parametrize(("length", "step"), [(0, 2), (1, 2), (6, 6), (997, 8)])
def test_kernel_matches_reference(kind: int, length: int, step: int) -> None:
    rng = np.random.default_rng(length)
    body, above = rng.integers(0, 256, (2, length), dtype=np.uint8)
    got = unfiltered_row_kernel(kind, body, above, step)
    assert np.array_equal(got, unfiltered_row_reference(kind, body, above, step))
