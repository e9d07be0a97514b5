"""Files that are either whole or not there: atomic writes, pictures, JSON.

Pictures are straight sRGB (or plain data) in [0, 1], channel-last. Sixteen-bit colour goes through
`png16`, since Pillow reads and writes it with eight.
"""

import json
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .png16 import is_png16, png16_bytes, png16_values

MAX_PIXELS = 64_000_000
"""Larger pictures are refused before they are decoded: a small file must not eat the memory."""


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Give a temporary name beside `path`; it becomes `path` when the block ends well.

    After an error neither the file nor a folder made for it stays behind, and an older file of that
    name is untouched. The temporary name keeps the suffix, by which many writers choose the format.
    """
    path = Path(path)
    made = _make_parents(path.parent)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(6)}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        _remove_empty(made)
        raise


@contextmanager
def atomic_directory(path: Path | str) -> Iterator[Path]:
    """Give a temporary folder; its files move into `path` when the block ends well.

    A folder that exists already keeps its other files: replacing it whole would delete what a user
    keeps there. Files move in the order of their names.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file; name a folder")
    made = _make_parents(path)
    temporary = path / f".partial.{secrets.token_hex(6)}"
    temporary.mkdir()
    try:
        yield temporary
        for source in sorted(p for p in temporary.rglob("*") if p.is_file()):
            target = path / source.relative_to(temporary)
            target.parent.mkdir(parents=True, exist_ok=True)
            source.replace(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        _remove_empty(made)
        raise
    shutil.rmtree(temporary)


def write_bytes(path: Path | str, data: bytes) -> None:
    """Write a file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path | str, value: Any) -> None:  # noqa: ANN401  anything JSON can hold
    """Write JSON atomically, indented, keys in the order given.

    Raises:
        ValueError: If a number is not finite, which JSON cannot hold.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_bytes(path, text.encode())


def read_json(path: Path | str) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ValueError: If there is no such file or it holds no JSON object.
    """
    path = Path(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} must hold a JSON object, not a {type(value).__name__}")
    return value


def write_png(path: Path | str, picture: Float[Tensor, "h w c"], *, bits: int = 8) -> None:
    """Write a grey (c = 1), RGB (3) or RGBA (4, straight) PNG atomically.

    Args:
        path: Where to.
        picture: Values in [0, 1]; others are clamped.
        bits: 8 or 16 a channel.

    Raises:
        ValueError: If a value is not a number, or the channels or bits are others than these.
    """
    write_bytes(path, png_bytes(picture, bits=bits))


def png_bytes(picture: Float[Tensor, "h w c"], *, bits: int = 8) -> bytes:
    """Encode a picture as `write_png` does; the same values give the same bytes."""
    if bits not in (8, 16):
        raise ValueError(f"bits must be 8 or 16, got {bits}")
    levels = quantised(picture, bits=bits)
    if bits == 16:
        return png16_bytes(levels)
    return encoded(levels, "PNG", compress_level=6)


def encoded(levels: np.ndarray, kind: str, **options: int) -> bytes:
    """Encode bytes of shape (h, w, 1, 3 or 4) in one of Pillow's formats."""
    import io  # noqa: PLC0415

    from PIL import Image as Pillow  # noqa: PLC0415  Pillow is needed only where pictures are

    if levels.shape[2] not in (1, 3, 4):
        raise ValueError(f"a picture has 1, 3 or 4 channels, got {levels.shape[2]}")
    out = io.BytesIO()
    Pillow.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels).save(out, kind, **options)
    return out.getvalue()


def read_png(path: Path | str) -> Float[Tensor, "h w c"]:
    """Read a picture file as grey, RGB or RGBA in [0, 1], keeping sixteen bits where there are.

    Any format that Pillow knows will do; palettes become RGB or RGBA.

    Raises:
        ValueError: If the file is missing, broken or over 64 megapixels.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    return picture_from_bytes(data, str(path))


def picture_from_bytes(data: bytes, name: str) -> Float[Tensor, "h w c"]:
    """Decode a picture as `read_png` does; `name` is what an error calls it."""
    levels = levels_from_bytes(data, name)
    return torch.from_numpy(levels.astype(np.float32) / np.iinfo(levels.dtype).max)


def levels_from_bytes(data: bytes, name: str, *, most_px: int | None = None) -> np.ndarray:
    """Decode a picture to (h, w, c) of uint8 or uint16, without scaling.

    Args:
        data: The file.
        name: What an error calls it.
        most_px: Pictures of eight bits with a longer side are shrunk to this, colour with its
            coverage, before anything else is made of them: that bounds memory.
    """
    import io  # noqa: PLC0415

    from PIL import Image as Pillow  # noqa: PLC0415

    try:
        if is_png16(data):
            return png16_values(data, max_pixels=MAX_PIXELS)
        with Pillow.open(io.BytesIO(data)) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise ValueError(f"it has over {MAX_PIXELS // 1_000_000} megapixels")
            mode = opened.mode
            see_through = mode in ("RGBA", "LA", "PA") or "transparency" in opened.info
            wanted = "RGBA" if see_through else "L" if mode in ("1", "L") else "RGB"
            # Converting to the same mode would copy.
            picture = opened if mode == wanted else opened.convert(wanted)
            shrink = 1.0 if most_px is None else most_px / max(picture.size)
            if shrink < 1:
                w, h = (max(1, round(side * shrink)) for side in picture.size)
                picture = picture.resize((w, h), Pillow.Resampling.BOX)
            levels = np.array(picture)
    except Exception as error:
        # Decoders of damaged files raise nearly anything: OSError, SyntaxError, IndexError, ...
        reason = str(error).split("\n")[0]
        raise ValueError(f"cannot read the picture {name}: {reason}") from error
    return levels[..., None] if levels.ndim == 2 else levels


def quantised(picture: Float[Tensor, "*shape"], *, bits: int) -> np.ndarray:
    """Round values in [0, 1] to the nearest of 2^bits levels; clamps.

    Raises:
        ValueError: If a value is not a number: there is no level for it.
    """
    if bool(picture.isnan().any()):
        raise ValueError("the picture holds values that are not numbers (NaN)")
    top = 2**bits - 1
    levels = (picture.detach().clamp(0, 1).double() * top).round()
    return levels.cpu().numpy().astype(np.uint16 if bits == 16 else np.uint8)


def _make_parents(path: Path) -> list[Path]:
    """Make a folder and those above it; give the new ones, innermost first."""
    missing = [p for p in (path, *path.parents) if not p.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cannot make the folder {path}: {error.strerror}") from error
    return missing


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:  # Somebody put a file there meanwhile: it stays, and so does what holds it.
            return
