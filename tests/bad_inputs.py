"""Files that must not become an asset: broken, hostile, mistaken, or showing nothing.

`write_all` makes one of each, in well under three seconds. The tests of `photo` and of the command
line read them all.
"""

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

_SIDE = 64


def write_all(directory: Path) -> list[Path]:
    """Write every bad input into a folder and give their paths; some paths do not exist at all."""
    directory.mkdir(parents=True, exist_ok=True)
    contents = {
        **_not_pictures(),
        **_damaged(),
        **_too_large(),
        **_of_no_size(),
        **_bad_values(),
        **_nothing_to_see(),
    }
    paths = []
    for name, content in contents.items():
        path = directory / name
        path.write_bytes(content)
        paths.append(path)
    return paths + _not_files(directory)


def _not_files(directory: Path) -> list[Path]:
    folder = directory / "folder.png"
    folder.mkdir(exist_ok=True)
    links = {"loop.png": "loop.png", "dangling.png": "nowhere.png", "device.png": "/dev/zero"}
    for name, target in links.items():
        link = directory / name
        if not link.is_symlink():
            link.symlink_to(target)
    pipe = directory / "pipe.png"
    if not pipe.exists():
        os.mkfifo(pipe)
    names = [*links, "missing.png", "two\nlines.png", "n" * 300 + ".png", "folder.png/inside.png"]
    return [folder, pipe, *(directory / name for name in names)]


def _not_pictures() -> dict[str, bytes]:
    return {
        "empty.png": b"",
        "blanks.png": b" \n\t" * 100,
        "text.png": b"This is a shopping list: eggs, milk, bread.\n" * 20,
        "data.jpg": b'{"image": "none"}',
        "page.jpg": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "drawing.png": b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"/>',
        "drawing.svg": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
        "pointer.png": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "paper.pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
        "phone.heic": b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic",
        "photo.avif": b"\x00\x00\x00\x18ftypavif\x00\x00\x00\x00mif1avif",
        "clip.mp4": b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2",
        "clip.webm": b"\x1aE\xdf\xa3\x01\x00\x00\x00\x00\x00\x00\x1fB\x86\x81\x01",
        "clip.avi": b"RIFF\x24\x00\x00\x00AVI LIST\x00\x00\x00\x00hdrl",
        "layers.psd": b"8BPS\x00\x01" + bytes(40),
        "archive.png": b"PK\x03\x04" + bytes(60),
        "model.png": b"glTF\x02\x00\x00\x00" + bytes(60),
        "array.png": b"\x93NUMPY\x01\x00v\x00{'descr': '<f4'}",
        "script.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n",
        "noise.jpg": np.random.default_rng(0).bytes(5000),
        "zeros.png": bytes(5000),
    }


def _damaged() -> dict[str, bytes]:
    png, jpeg = _encoded("PNG"), _encoded("JPEG")
    webp, gif = _encoded("WEBP"), _encoded("GIF")
    bmp, tiff = _encoded("BMP"), _encoded("TIFF")
    scrambled = bytearray(png)
    middle = len(png) // 2
    scrambled[middle : middle + 200] = bytes(200)
    wrong_check = bytearray(png)
    wrong_check[29] ^= 0xFF
    palette = _png_header(_SIDE, _SIDE, colour=3) + _chunk(b"IDAT", zlib.compress(bytes(65 * 64)))
    return {
        "half.png": png[: len(png) // 2],
        "signature.png": png[:8],
        "header.png": _png_header(_SIDE, _SIDE),
        "no_palette_no_end.png": palette[:-20],
        "wrong_check.png": bytes(wrong_check),
        "scrambled.png": bytes(scrambled),
        "swollen_text.png": _png_header(_SIDE, _SIDE)
        + _chunk(b"zTXt", b"Comment\x00\x00" + zlib.compress(bytes(4_000_000)))
        + png[33:],
        "half.jpg": jpeg[: len(jpeg) // 2],
        "start.jpg": jpeg[:2],
        "header.jpg": jpeg[:20],
        "half.webp": webp[: len(webp) // 2],
        "header.webp": webp[:16],
        "half.gif": gif[: len(gif) // 2],
        "header.gif": gif[:13],
        "half.bmp": bmp[: len(bmp) // 2],
        "header.bmp": bmp[:20],
        "half.tif": tiff[: len(tiff) // 2],
        "header.tif": tiff[:8],
        "lost_directory.tif": b"II*\x00\xff\xff\xff\x00" + bytes(100),
    }


def _too_large() -> dict[str, bytes]:
    """Headers of pictures of 100 megapixels and more, without the pixels."""
    jpeg = bytearray(_encoded("JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 10000, 10000)
    gif = b"GIF89a" + struct.pack("<HH", 10000, 10000) + b"\x00\x00\x00,"
    gif += struct.pack("<HHHH", 0, 0, 10000, 10000) + b"\x00\x02\x00;"
    bmp = bytearray(_encoded("BMP"))
    bmp[18:26] = struct.pack("<ii", 10000, 10000)
    webp = bytearray(_saved(Image.new("RGB", (_SIDE, _SIDE)), "WEBP", lossless=True))
    webp[21:25] = struct.pack("<I", 9999 | 9999 << 14)
    return {
        "100_megapixels.png": _png_header(10000, 10000) + _chunk(b"IDAT", zlib.compress(b"")),
        "3600_megapixels.png": _png_header(60000, 60000) + _chunk(b"IDAT", zlib.compress(b"")),
        "100_megapixels.jpg": bytes(jpeg),
        "100_megapixels.gif": gif,
        "100_megapixels.bmp": bytes(bmp),
        "100_megapixels.webp": bytes(webp),
        "100_megapixels.tif": _tiff_header(10000, 10000),
    }


def _of_no_size() -> dict[str, bytes]:
    bmp = bytearray(_encoded("BMP"))
    bmp[18:26] = struct.pack("<ii", 0, 0)
    return {
        "zero.png": _png_header(0, 64) + _chunk(b"IDAT", zlib.compress(b"")),
        "zero.bmp": bytes(bmp),
        "zero.gif": b"GIF89a" + bytes(7) + b",\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00;",
        "dot.png": _encoded("PNG", side=1),
        "dot.gif": _encoded("GIF", side=1),
        "tiny.webp": _encoded("WEBP", side=31),
        "ribbon.png": _saved(Image.new("RGB", (9000, 40), "red"), "PNG"),
        "sliver.jpg": _saved(Image.new("RGB", (300, 8), "red"), "JPEG"),
    }


def _bad_values() -> dict[str, bytes]:
    def grey(value: float) -> bytes:
        values = np.linspace(0, 1, _SIDE * _SIDE, dtype=np.float32).reshape(_SIDE, _SIDE).copy()
        values[20:30, 20:30] = value
        return _saved(Image.fromarray(values), "TIFF")

    return {
        "nan.tif": grey(float("nan")),
        "inf.tif": grey(float("inf")),
        "minus_inf.tif": grey(float("-inf")),
        "transparent.png": _saved(Image.new("RGBA", (64, 64), (200, 30, 30, 0)), "PNG"),
        "transparent_grey.png": _saved(Image.new("LA", (64, 64), (200, 0)), "PNG"),
        "transparent.webp": _saved(
            Image.new("RGBA", (64, 64), (200, 30, 30, 0)), "WEBP", lossless=True
        ),
        "transparent.gif": _saved(Image.new("P", (64, 64), 0), "GIF", transparency=0),
    }


def _nothing_to_see() -> dict[str, bytes]:
    """Sound pictures in which there is no object to cut out."""
    ramp = np.repeat(np.linspace(0, 255, 128).astype(np.uint8)[None, :], 128, axis=0)
    board = ((np.indices((128, 128)) // 16).sum(axis=0) % 2 * 255).astype(np.uint8)
    static = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    speck = np.zeros((128, 128, 4), np.uint8)
    speck[60:70, 60:70] = (200, 30, 30, 255)
    faint = np.zeros((128, 128, 4), np.uint8)
    faint[20:100, 20:100] = (200, 30, 30, 120)
    return {
        "white.png": _saved(Image.new("RGB", (128, 128), "white"), "PNG"),
        "black.jpg": _saved(Image.new("L", (128, 128), 0), "JPEG"),
        "grey.bmp": _saved(Image.new("RGB", (128, 128), "grey"), "BMP"),
        "ramp.png": _saved(Image.fromarray(ramp), "PNG"),
        "chess.png": _saved(Image.fromarray(board), "PNG"),
        "static.png": _saved(Image.fromarray(static), "PNG"),
        "speck.png": _saved(Image.fromarray(speck), "PNG"),
        "faint.png": _saved(Image.fromarray(faint), "PNG"),
    }


def _encoded(file_format: str, *, side: int = _SIDE) -> bytes:
    """A sound picture of noise, which no format can compress to nothing."""
    values = np.random.default_rng(1).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return _saved(Image.fromarray(values), file_format)


def _saved(picture: Image.Image, file_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    write: Callable[..., None] = picture.save
    write(file, file_format, **options)
    return file.getvalue()


def _chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def _png_header(width: int, height: int, *, colour: int = 2) -> bytes:
    fields = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", fields)


def _tiff_header(width: int, height: int) -> bytes:
    tags = [
        *((256, width), (257, height), (258, 8), (259, 1), (262, 1)),
        *((273, 8), (277, 1), (278, height), (279, width * height)),
    ]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\x00\x08\x00\x00\x00" + struct.pack("<H", len(tags)) + entries + bytes(4)
