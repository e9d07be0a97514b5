"""SPZ: Gaussians in about a tenth of a PLY's bytes.

Niantic Labs, "spz" (github.com/nianticlabs/spz), 2024, file format versions 2 and 3: a gzip stream
of a 16-byte header and then, attribute by attribute, positions, opacities, colours, scales,
rotations and view-dependent colour. Its frame is right, up, back: x right, +Y up, +Z towards the
viewer, which is our world, so nothing is turned on the way.
"""

import gzip
import io
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..gaussians import Gaussians
from .files import quantised, write_bytes
from .web_splat import check_finite, logit_from_level

_MAGIC = 0x5053474E  # "NGSP"
_HEADER = struct.Struct("<IIIBBBB")
_HAS_EXTENSIONS = 0x2
_COLOUR_SCALE = 0.15  # of the degree-0 coefficient, so that colours beyond [0, 1] fit
_SH_BITS = (5, 4)  # of degree 1, and of those above: the format's defaults
_MOST_BITS = 16  # chosen by us: an asset of size 1 keeps 1/131072, a hundredth of a pixel at 1024
_MOST = 10_000_000  # Gaussians; as Niantic's reader: a small gzip may claim any number
# A gzip stream may unpack to a thousand times itself; an asset's 40,000 splats do to twice. Chosen
# by us, so that a file of 100 kB cannot take gigabytes.
_MOST_UNPACKED, _LEAST_MAX_BYTES = 32, 1 << 24
_LONGEST = 9 + 1 + 3 + 3 + 4 + 45  # bytes a Gaussian, with colour of degree 3
_ROOT_HALF = math.sqrt(0.5)


def save_spz(gaussians: Gaussians, path: Path | str) -> None:
    """Write Gaussians as SPZ version 2, atomically; the same values, the same bytes.

    Positions are rounded to 2^-16 (less where they lie beyond 128), the logarithms of the scales to
    a 16th and clamped to [-10, 5.94], the quaternion's x, y, z to 2/255, opacity to a 255th, colour
    to 0.0074; view-dependent coefficients are clamped to [-1, 1] and rounded to a 16th (degree 1)
    or an 8th.

    Raises:
        ValueError: If a value is not finite, or a centre lies beyond 2^23.
    """
    g = gaussians.detach().to("cpu")
    check_finite(g)
    furthest = float(g.centre.abs().max()) if len(g) else 0.0
    bits = _MOST_BITS
    while bits > 0 and furthest * 2**bits > 2**23 - 1:
        bits -= 1
    if furthest * 2**bits > 2**23 - 1:
        raise ValueError(f"a centre lies at {furthest:.3g}, beyond what SPZ holds ({2**23 - 1})")
    fixed = (g.centre.double() * 2**bits).round().numpy().astype("<i4")
    quat = torch.nn.functional.normalize(g.quat_wxyz.double(), dim=-1)
    quat = torch.where(quat[:, :1] < 0, -quat, quat)  # w is not stored: it counts as positive
    parts = [
        np.ascontiguousarray(fixed).view("u1").reshape(-1, 3, 4)[..., :3],
        quantised(g.opacity, bits=8),
        _bytes(g.sh[:, 0].double() * (_COLOUR_SCALE * 255) + 127.5),
        _bytes((g.log_scale.double() + 10) * 16),
        _bytes(quat[:, 1:] * 127.5 + 127.5),
        _coefficients(g.sh[:, 1:]),
    ]
    header = _HEADER.pack(_MAGIC, 2, len(g), g.sh_degree, bits, 0, 0)
    body = header + b"".join(part.tobytes() for part in parts)
    write_bytes(path, gzip.compress(body, 9, mtime=0))


def load_spz(path: Path | str) -> Gaussians:
    """Read an SPZ file of version 2 or 3.

    Raises:
        ValueError: If the file is missing, broken, of another version, or has extensions.
    """
    try:
        packed = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    try:
        return _unpacked(_unzipped(packed))
    except ValueError as error:
        raise ValueError(f"cannot read {path}: {error}") from error


def _unzipped(packed: bytes) -> bytes:
    """Decompress as much as the header says there is."""
    if packed[:4] == b"NGSP":
        raise ValueError("it is SPZ version 4 or later; versions 2 and 3 are read")
    try:
        with gzip.open(io.BytesIO(packed)) as stream:
            head = stream.read(_HEADER.size)
            if len(head) < _HEADER.size or head[:4] != b"NGSP":
                raise ValueError("it is not an SPZ file")
            count = _HEADER.unpack(head)[2]
            if count > _MOST:
                raise ValueError(f"it claims {count} Gaussians; up to {_MOST} are read")
            most = max(_LEAST_MAX_BYTES, len(packed) * _MOST_UNPACKED)
            return head + stream.read(min(count * _LONGEST, most))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"it is no whole gzip stream ({error})") from error


@dataclass
class _Bytes:
    """What is left of a file."""

    data: bytes
    at: int

    def take(self, *shape: int) -> np.ndarray:
        count = math.prod(shape)
        if self.at + count > len(self.data):
            raise ValueError(f"it ends after {len(self.data)} bytes, before all is told")
        self.at += count
        return np.frombuffer(self.data, np.uint8, count, self.at - count).reshape(shape)


def _unpacked(data: bytes) -> Gaussians:
    _, version, count, degree, bits, flags, _ = _HEADER.unpack(data[: _HEADER.size])
    if version not in (2, 3):
        raise ValueError(f"it is SPZ version {version}; versions 2 and 3 are read")
    if degree > 3 or bits > 23:
        raise ValueError(f"it has colour of degree {degree} and {bits} fractional bits: not read")
    if flags & _HAS_EXTENSIONS:
        raise ValueError("it has extensions, which are not read; export without them")
    each = 9 + 1 + 3 + 3 + (3 if version == 2 else 4) + 3 * ((degree + 1) ** 2 - 1)
    if len(data) < _HEADER.size + count * each:
        raise ValueError(f"it ends after {len(data)} bytes, before all is told")
    rest = _Bytes(data, _HEADER.size)
    wide = np.zeros((count, 3, 4), np.uint8)
    wide[..., 1:] = rest.take(count, 3, 3)  # in the upper bytes, so that the sign is at its place
    fixed = wide.reshape(count, 12).view("<i4").astype(np.float64) / 256
    level = rest.take(count)
    base = (rest.take(count, 3) / 255.0 - 0.5) / _COLOUR_SCALE
    log_scale = rest.take(count, 3) / 16.0 - 10
    if version == 2:
        quat = _quat_of_three(rest.take(count, 3))
    else:
        quat = _quat_of_smallest(rest.take(count, 4))
    above = (rest.take(count, (degree + 1) ** 2 - 1, 3) - 128.0) / 128
    sh = np.concatenate([base[:, None], above], axis=1)
    return Gaussians(
        torch.from_numpy((fixed / 2**bits).astype(np.float32)),
        torch.from_numpy(log_scale.astype(np.float32)),
        torch.from_numpy(quat.astype(np.float32)),
        logit_from_level(level),
        torch.from_numpy(sh.astype(np.float32)),
    )


def _quat_of_three(level: np.ndarray) -> np.ndarray:
    """Version 2: x, y, z in bytes; w is what makes the length 1."""
    xyz = level / 127.5 - 1
    w = np.sqrt(np.maximum(0, 1 - (xyz**2).sum(axis=-1, keepdims=True)))
    return np.concatenate([w, xyz], axis=-1)


def _quat_of_smallest(level: np.ndarray) -> np.ndarray:
    """Version 3: which of x, y, z, w is the largest (2 bits), the others as sign and 9 bits."""
    word = np.ascontiguousarray(level).view("<u4")[:, 0]
    largest = (word >> 30).astype(np.int64)
    small = np.stack([word >> 20, word >> 10, word], axis=-1) & 0x3FF
    value = (small & 0x1FF) / 511.0 * _ROOT_HALF * np.where(small & 0x200, -1.0, 1.0)
    top = np.sqrt(np.maximum(0, 1 - (value**2).sum(axis=-1)))
    # The three keep their order; the largest is put in where it belongs.
    column = np.arange(4)[None]
    source = np.minimum(column - (column > largest[:, None]), 2)
    xyzw = np.take_along_axis(value, source, axis=1)
    xyzw[np.arange(len(word)), largest] = top
    return xyzw[:, [3, 0, 1, 2]]


def _coefficients(above: torch.Tensor) -> np.ndarray:
    """Round view-dependent coefficients to few levels, which gzip makes small; 0 stays 0."""
    levels = [
        _on_grid(above[:, :3], 2 ** (8 - _SH_BITS[0])),
        _on_grid(above[:, 3:], 2 ** (8 - _SH_BITS[1])),
    ]
    return np.concatenate(levels, axis=1)


def _on_grid(values: torch.Tensor, step: int) -> np.ndarray:
    level = (values.double().clamp(-1, 1) * 128 / step).round() * step + 128
    return _bytes(level)


def _bytes(level: torch.Tensor) -> np.ndarray:
    return level.round().clamp(0, 255).numpy().astype(np.uint8)
