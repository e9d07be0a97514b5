"""PNG with sixteen bits a channel, in grey, RGB and RGBA.

Pillow cuts colour to eight bits on the way in and cannot write more. Portable Network Graphics
(PNG) Specification, Third Edition, W3C 2025: section 9 (filtering), 11.2 (critical chunks).
"""

import struct
import zlib

import numpy as np

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_LARGE = 1_000_000  # bytes from which compiling a kernel is worth its second
_COLOUR_TYPES = {0: 1, 2: 3, 4: 2, 6: 4}  # channels of each PNG colour type that has no palette


def is_png16(data: bytes) -> bool:
    """Tell whether these bytes begin like a PNG with sixteen bits a channel."""
    return data[:8] == _SIGNATURE and data[12:16] == b"IHDR" and data[24:25] == b"\x10"


def png16_bytes(values: np.ndarray) -> bytes:
    """Encode (h, w, 1, 3 or 4) of uint16; the same values give the same bytes."""
    h, w, channels = values.shape
    colour_type = {1: 0, 3: 2, 4: 6}.get(channels)
    if colour_type is None:
        raise ValueError(f"a picture has 1, 3 or 4 channels, got {channels}")
    rows = values.astype(">u2").view(np.uint8).reshape(h, w * channels * 2)
    above = np.concatenate([np.zeros_like(rows[:1]), rows[:-1]])
    # Filter 2 (up): the difference to the row above, which is small in depth maps and normals.
    filtered = np.concatenate([np.full((h, 1), 2, np.uint8), rows - above], axis=1)
    header = struct.pack(">IIBBBBB", w, h, 16, colour_type, 0, 0, 0)
    return (
        _SIGNATURE
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(filtered.tobytes(), 6))
        + _chunk(b"IEND", b"")
    )


def png16_values(data: bytes, *, max_pixels: int) -> np.ndarray:
    """Decode to (h, w, c) of uint16.

    Raises:
        ValueError: If the file is broken, interlaced, or has more than `max_pixels`.
    """
    try:
        w, h, _, colour_type, _, _, interlace = struct.unpack(">IIBBBBB", data[16:29])
    except struct.error as error:
        raise ValueError("the file ends inside its header") from error
    if interlace:
        raise ValueError("interlaced pictures with 16 bits a channel are not supported")
    if colour_type not in _COLOUR_TYPES or w * h == 0:
        raise ValueError("the file's header is broken")
    if w * h > max_pixels:
        raise ValueError(f"it has over {max_pixels // 1_000_000} megapixels")
    channels = _COLOUR_TYPES[colour_type]
    size = h * (1 + w * channels * 2)
    try:
        raw = zlib.decompressobj().decompress(_image_data(data), size)
    except zlib.error as error:
        raise ValueError(f"its pixels are broken ({error})") from error
    if len(raw) < size:
        raise ValueError("the file is truncated")
    lines = np.frombuffer(raw, np.uint8).reshape(h, -1)
    pixels = _unfiltered(lines, channels * 2).view(">u2").reshape(h, w, channels)
    if channels == 2:  # grey with alpha
        pixels = pixels[..., [0, 0, 0, 1]]
    return pixels.astype(np.uint16)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _image_data(data: bytes) -> bytes:
    at, parts = 8, []
    while at + 8 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind = data[at + 4 : at + 8]
        if kind == b"IDAT":
            parts.append(data[at + 8 : at + 8 + length])
        if kind == b"IEND":
            break
        at += 12 + length
    return b"".join(parts)


def _unfiltered(lines: np.ndarray, step: int) -> np.ndarray:
    """Undo the five row filters; `step` is the bytes of a pixel."""
    out = np.zeros((len(lines), lines.shape[1] - 1), np.uint8)
    above = np.zeros(lines.shape[1] - 1, np.uint8)
    undo = unfiltered_row_reference
    if lines.size > _LARGE:
        # In Python a picture of 64 megapixels would take minutes.
        from .png16_numba import unfiltered_row_kernel as undo  # noqa: PLC0415  brings numba
    for row, line in enumerate(lines):
        kind, body = int(line[0]), line[1:]
        if kind == 0:
            out[row] = body
        elif kind == 1:  # sub: a running sum along the row, modulo 256
            out[row] = np.cumsum(body.reshape(-1, step), axis=0, dtype=np.uint8).reshape(-1)
        elif kind == 2:
            out[row] = body + above
        elif kind in (3, 4):
            out[row] = undo(kind, body, above, step)
        else:
            raise ValueError(f"its pixels are broken (row filter {kind})")
        above = out[row]
    return out


def unfiltered_row_reference(
    kind: int, body: np.ndarray, above: np.ndarray, step: int
) -> np.ndarray:
    """Undo "average" (3) or "Paeth" (4), where each byte needs the finished one on its left.

    Args:
        kind: 3 or 4.
        body: Bytes of the row.
        above: Finished bytes of the row above, zeros above the first.
        step: Bytes of a pixel.
    """
    done = [0] * step + body.tolist()
    over = [0] * step + above.tolist()
    for i in range(step, len(done)):
        a, b, c = done[i - step], over[i], over[i - step]
        if kind == 3:
            guess = (a + b) // 2
        else:
            to_a, to_b, to_c = abs(b - c), abs(a - c), abs(a + b - 2 * c)
            guess = a if to_a <= to_b and to_a <= to_c else b if to_b <= to_c else c
        done[i] = (done[i] + guess) & 255
    return np.array(done[step:], np.uint8)
