"""Photographs from disk: every common format read upright and in sRGB, every bad file refused.

This is an edge of the package: what comes in here may be hostile, broken or not a picture at all.
"""

import io
import logging
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image as PilImage
from PIL import ImageCms
from torch import Tensor

from .image import Image, resize

MAX_MEGAPIXELS = 64
"""Larger pictures are refused from their header, before a pixel is decoded."""
MAX_SIDE_PX = 2048
"""Longer pictures are reduced to this when they are read, which bounds memory and time."""
MIN_SIDE_PX = 32
"""Pictures with a shorter side hold no subject that could be reconstructed."""

_STRIP_ROWS = 256
_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")
_READABLE = "PNG, JPEG, WebP, TIFF, BMP or GIF"
# Channel values of 250 of 255 and more come from lossy compression of an opaque picture.
_OPAQUE = 250 / 255
_STILL_BRANDS = (b"heic", b"heix", b"heif", b"mif1", b"msf1", b"hevc", b"avif", b"avis")
_DAMAGED = "the picture is damaged or incomplete (its header cannot be read)"
_KNOWN_STARTS = {
    b"\x89PNG": _DAMAGED,
    b"\xff\xd8": _DAMAGED,
    b"GIF8": _DAMAGED,
    b"BM": _DAMAGED,
    b"II*\x00": _DAMAGED,
    b"MM\x00*": _DAMAGED,
    b"\x1aE\xdf\xa3": "is a video; save one frame as PNG",
    b"%PDF": "is a PDF; export the page as PNG",
    b"<svg": "is an SVG drawing; export it as PNG",
    b"<!doctype html": "is a web page, not a picture; download the picture itself",
    b"<html": "is a web page, not a picture; download the picture itself",
    b"version https://git-lfs": "is a Git LFS pointer; fetch the file itself with git lfs pull",
}
"""What files that cannot be read begin with, and what to say of them; compared in lower case."""
_TURNS = {
    2: PilImage.Transpose.FLIP_LEFT_RIGHT,
    3: PilImage.Transpose.ROTATE_180,
    4: PilImage.Transpose.FLIP_TOP_BOTTOM,
    5: PilImage.Transpose.TRANSPOSE,
    6: PilImage.Transpose.ROTATE_270,
    7: PilImage.Transpose.TRANSVERSE,
    8: PilImage.Transpose.ROTATE_90,
}
"""What undoes each value of the EXIF tag Orientation (EXIF 2.32, tag 0x0112)."""

_log = logging.getLogger(__name__)


class PhotoError(ValueError):
    """A file that cannot serve as the photograph; the message is one line that names it."""


def load_image(path: str | os.PathLike[str]) -> Image:
    """Read a photograph, upright and in sRGB.

    Reads PNG, JPEG, WebP, TIFF, BMP and GIF; grey, palette, CMYK, 16-bit and float pictures; the
    first frame of animations. The EXIF orientation is applied and an embedded colour profile is
    converted to sRGB. Pictures longer than `MAX_SIDE_PX` are reduced to it. Alpha is kept only if
    it says something, that is unless all of the picture is opaque.

    16-bit values are divided by 65535. Float values are taken as sRGB in [0, 1], or are divided by
    255, by 65535 or by their maximum, the first that brings them below 1; negative ones become 0.

    Args:
        path: The file.

    Returns:
        The photograph, with sides of 32 to 2048 pixels.

    Raises:
        PhotoError: If there is no such file, it is no picture of these formats, it is damaged, or
            it is too large, too small or wholly transparent. The message is one line.
    """
    shown = _shown(path)
    image = _read(Path(path), shown)
    if image.alpha is not None and float(image.alpha.max()) < 0.5:
        raise PhotoError(
            f"{shown}: all of the picture is transparent or nearly so; give one with an object"
        )
    return image


def load_mask(path: str | os.PathLike[str], size_hw: tuple[int, int]) -> Float[Tensor, "h w"]:
    """Read a mask of the subject: white (or opaque) where it is, black (or transparent) elsewhere.

    Args:
        path: A picture in any format of `load_image`. Its alpha is used if it has a telling one,
            its brightness otherwise; masks that hold only 0 and 1 of 255 are understood.
        size_hw: Size of the photograph as loaded. The mask may have another resolution, as it has
            when the photograph was reduced, but must have the same aspect within 2 percent.

    Returns:
        Coverage in [0, 1] at `size_hw`.

    Raises:
        PhotoError: As `load_image`, and if the mask is empty or of another shape.
    """
    shown = _shown(path)
    image = _read(Path(path), shown)
    mask = image.rgb.mean(dim=-1) if image.alpha is None else image.alpha
    (h, w), (h_photo, w_photo) = image.size_hw, size_hw
    if abs(w * h_photo / (h * w_photo) - 1) > 0.02:
        raise PhotoError(
            f"{shown}: the mask is {w}x{h} but the photograph {w_photo}x{h_photo}; "
            "give a mask of the photograph's shape, turned like it"
        )
    if float(mask.max()) == 0:
        raise PhotoError(f"{shown}: the mask is empty; paint the object white on black")
    if float(mask.max()) < 1.5 / 255:
        mask = mask / mask.max()
    return resize(mask[..., None], size_hw)[..., 0].clamp(0, 1)


def _read(path: Path, shown: str) -> Image:
    """Read the file; every failure inside a decoder becomes a PhotoError."""
    data = _open(path, shown)
    try:
        with data, _quiet(), PilImage.open(data, formats=_FORMATS) as picture:
            _check_size(picture.size, shown)
            # Phones write JPEGs with small previews behind them (MPO), which are no animations.
            animated = picture.format != "MPO" and bool(getattr(picture, "is_animated", False))
            picture.seek(0)
            picture.load()
            rgb, alpha = _pixels(picture, shown)
    except PhotoError:
        raise
    except PilImage.UnidentifiedImageError:
        raise PhotoError(f"{shown}: {_what_it_is(path)}") from None
    except PilImage.DecompressionBombError:
        raise PhotoError(f"{shown}: {_too_large('178 or more')}") from None
    except MemoryError:
        raise PhotoError(f"{shown}: too little memory to decode the picture") from None
    except Exception as error:
        # Decoders of damaged files raise nearly anything: OSError, SyntaxError, struct.error,
        # IndexError, zlib.error, ... To the user all of them say the same.
        _log.debug("decoding %s failed", shown, exc_info=error)
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PhotoError(f"{shown}: the picture is damaged or incomplete ({reason})") from None
    if animated:
        _log.warning("%s holds several frames or pages; the first is used", shown)
    return Image(torch.from_numpy(rgb), None if alpha is None else torch.from_numpy(alpha))


def _open(path: Path, shown: str) -> io.BufferedReader:
    """Open a regular file that is not empty."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise PhotoError(f"{shown}: is a folder; give one picture")
        # Opening a pipe would wait for its writer for ever.
        if not stat.S_ISREG(status.st_mode):
            raise PhotoError(f"{shown}: is a pipe or a device; give a picture file")
        if status.st_size == 0:
            raise PhotoError(f"{shown}: the file is empty")
        return path.open("rb")
    except FileNotFoundError:
        raise PhotoError(f"{shown}: there is no such file") from None
    except PermissionError:
        raise PhotoError(f"{shown}: may not be read; check its permissions") from None
    except PhotoError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise PhotoError(f"{shown}: cannot be opened ({reason})") from None


def _check_size(size_wh: tuple[int, int], shown: str) -> None:
    w, h = size_wh
    if w * h > MAX_MEGAPIXELS * 10**6:
        raise PhotoError(f"{shown}: {_too_large(f'{w * h / 1e6:.0f}')}")
    if min(w, h) < MIN_SIDE_PX:
        raise PhotoError(
            f"{shown}: the picture is only {w}x{h} pixels; both sides must have {MIN_SIDE_PX}"
        )
    if min(w, h) * MAX_SIDE_PX < MIN_SIDE_PX * max(w, h):
        raise PhotoError(f"{shown}: the picture is too long and thin, {w}x{h} pixels; crop it")


def _too_large(megapixels: str) -> str:
    return (
        f"the picture has {megapixels} megapixels and at most {MAX_MEGAPIXELS} are read; "
        f"reduce it, {MAX_SIDE_PX} pixels on the longer side are plenty"
    )


def _pixels(
    picture: PilImage.Image, shown: str
) -> tuple[Float[np.ndarray, "h w 3"], Float[np.ndarray, "h w"] | None]:
    """Turn a decoded picture into upright sRGB and, if it is telling, alpha."""
    turn = _TURNS.get(_orientation(picture, shown))
    profile = picture.info.get("icc_profile")
    picture = _reduced(_standard_mode(picture, shown))
    if turn is not None:
        picture = picture.transpose(turn)
    alpha = None
    if picture.mode in ("LA", "RGBA"):
        alpha = np.asarray(picture.getchannel("A"), np.float32) / 255
        alpha = None if alpha.min() >= _OPAQUE else alpha
        picture = picture.convert(picture.mode.removesuffix("A"))
    if picture.mode == "F":
        grey = np.asarray(picture, np.float32).clip(0, 1)
        return np.repeat(grey[..., None], 3, axis=2), alpha
    picture = _srgb(picture, profile, shown)
    return np.asarray(picture, np.float32) / 255, alpha


def _standard_mode(picture: PilImage.Image, shown: str) -> PilImage.Image:
    """Bring the picture to L, LA, RGB, RGBA, CMYK, LAB or F in [0, 1]."""
    if picture.mode.startswith("I") or picture.mode == "F":
        divisor = _divisor(picture, shown)
        # Reduced first: copies of 64 megapixels as numbers took 1.5 GB.
        numbers = _reduced(picture if picture.mode == "F" else picture.convert("F"))
        return PilImage.fromarray((np.asarray(numbers, np.float32) / divisor).clip(0, 1))
    if picture.mode == "1":
        return picture.convert("L")
    if picture.mode in ("P", "PA") or "transparency" in picture.info:
        transparent = picture.mode == "PA" or "transparency" in picture.info
        return picture.convert("RGBA" if transparent else "RGB")
    if picture.mode in ("La", "RGBa"):
        return picture.convert(picture.mode.upper())
    if picture.mode in ("L", "LA", "RGB", "RGBA", "CMYK", "LAB"):
        return picture
    return picture.convert("RGB")


def _divisor(picture: PilImage.Image, shown: str) -> float:
    """Find what scales 16-bit, 32-bit and float grey to [0, 1] as `load_image` says."""
    (w, h), top, is_float = picture.size, 0.0, False
    for y in range(0, h, 256):
        values = np.asarray(picture.crop((0, y, w, min(y + 256, h))))
        is_float = values.dtype.kind == "f"
        if is_float and not np.isfinite(values).all():
            raise PhotoError(f"{shown}: the picture holds values that are not finite (NaN or inf)")
        top = max(top, float(values.max()))
    if not is_float:
        return 65535.0 if top <= 65535 else top
    return next((d for d in (1.0, 255.0, 65535.0) if top <= d), top)


def _reduced(picture: PilImage.Image) -> PilImage.Image:
    """Reduce the longer side to `MAX_SIDE_PX` with an area filter, alpha premultiplied."""
    scale = MAX_SIDE_PX / max(picture.size)
    if scale >= 1:
        return picture
    w, h = (max(1, round(side * scale)) for side in picture.size)
    # Hamming is an area filter with softened edges: no ringing, and no uneven steps at odd ratios.
    if picture.mode not in ("LA", "RGBA"):
        return picture.resize((w, h), PilImage.Resampling.HAMMING)
    # Across in strips, then down: for all at once Pillow makes a second copy of the picture.
    narrow = PilImage.new(picture.mode.replace("A", "a"), (w, picture.height))
    for top in range(0, picture.height, _STRIP_ROWS):
        strip = picture.crop((0, top, picture.width, min(top + _STRIP_ROWS, picture.height)))
        strip = strip.convert(narrow.mode).resize((w, strip.height), PilImage.Resampling.HAMMING)
        narrow.paste(strip, (0, top))
    return narrow.resize((w, h), PilImage.Resampling.HAMMING).convert(picture.mode)


def _orientation(picture: PilImage.Image, shown: str) -> int:
    try:
        return int(picture.getexif().get(0x0112, 1))
    except Exception as error:  # Broken EXIF comes as any exception, and is no reason to give up.
        _log.warning("%s: its EXIF data cannot be read (%s); taken as upright", shown, error)
        return 1


def _srgb(picture: PilImage.Image, profile: bytes | None, shown: str) -> PilImage.Image:
    """Convert L, RGB, CMYK or LAB to sRGB, by the embedded profile if there is a sane one."""
    srgb = ImageCms.createProfile("sRGB")
    if picture.mode == "LAB":
        source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    elif profile:
        source = _sane_profile(profile, picture.mode, shown)
    else:
        source = None
    if source is None:
        return picture.convert("RGB")
    converted = ImageCms.profileToProfile(
        picture, source, srgb, ImageCms.Intent.RELATIVE_COLORIMETRIC, outputMode="RGB"
    )
    return picture.convert("RGB") if converted is None else converted


def _sane_profile(profile: bytes, mode: str, shown: str) -> ImageCms.ImageCmsProfile | None:
    """Open an embedded profile; None if it is sRGB anyway, broken, or of another kind of colour."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        name = ImageCms.getProfileDescription(opened)
        core: Any = opened.profile
        space = str(core.xcolor_space).strip()
    except (OSError, ImageCms.PyCMSError, TypeError, ValueError):
        _log.warning("%s: its colour profile cannot be read; taken as sRGB", shown)
        return None
    if "sRGB" in name:
        return None
    if space != {"L": "GRAY"}.get(mode, mode):
        _log.warning("%s: its colour profile is for %s, not %s; ignored", shown, space, mode)
        return None
    return opened


def _what_it_is(path: Path) -> str:
    """Say what an unreadable file seems to be and what would do, from its first bytes."""
    with path.open("rb") as file:
        head = file.read(1024)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head[4:8] == b"ftyp" and head[8:12] in _STILL_BRANDS:
        return "is a HEIC or AVIF picture; convert it to JPEG or PNG"
    if head[4:8] == b"ftyp" or head[8:12] == b"AVI ":
        return "is a video; save one frame as PNG"
    if text.startswith(b"<?xml") and b"<svg" in text:
        return _KNOWN_STARTS[b"<svg"]
    for start, meaning in _KNOWN_STARTS.items():
        if text.startswith(start.lower()):
            return meaning
    return f"is not a picture that can be read; convert it to PNG or JPEG (read are {_READABLE})"


def _shown(path: str | os.PathLike[str]) -> str:
    """Give the path as text of one line, whatever bytes its name holds."""
    text = os.fsdecode(path)
    return text if text.isprintable() else ascii(text)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the warnings of decoders from the user: what matters is refused or logged here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
