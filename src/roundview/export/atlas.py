"""Join textured parts into one mesh with one texture, as `Mesh` has it.

Files hold any number of parts, each with its picture, colour or neither. One picture stays as it
is; several are packed side by side.
"""

import logging
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..mesh import Mesh, Texture

_LOG = logging.getLogger(__name__)
_LARGEST_PX = 4096  # a side of the joined picture; larger ones are shrunk
_GUTTER_PX = 2  # repeated border round each picture, so that linear filtering sees no neighbour


@dataclass(frozen=True, eq=False)
class Part:
    """A piece of a file: `v` vertices, `f` faces, and at most one picture.

    Parts that share a picture share the array itself. `rgb` is a plain colour (3 numbers) or one
    for each vertex (v, 3), used where there is no picture. Colours are sRGB, pictures bytes.
    """

    vertices: np.ndarray
    faces: np.ndarray
    rgb: np.ndarray
    uv: np.ndarray | None = None
    picture: np.ndarray | None = None
    repeats: bool = False


def mesh_from_parts(parts: list[Part]) -> Mesh:
    """Join parts; one picture is kept as it is, several become one.

    Raises:
        ValueError: If there are no faces, or vertices that are not finite.
    """
    parts = [_within_tile(part) for part in parts if len(part.faces)]
    if not parts:
        raise ValueError("it holds no triangles")
    pictured = [part for part in parts if part.picture is not None]
    uv = texture = rgb = None
    if not pictured:
        rgb = np.concatenate([np.broadcast_to(p.rgb, p.vertices.shape) for p in parts])
    elif len(pictured) == len(parts) and len({id(p.picture) for p in parts}) == 1:
        uv, texture = np.concatenate([_uv(part) for part in parts]), parts[0].picture
    else:
        uv, texture = _packed([_coloured(part) for part in parts])
    offsets = np.cumsum([0] + [len(part.vertices) for part in parts[:-1]])
    faces = np.concatenate([part.faces + at for part, at in zip(parts, offsets, strict=True)])
    picture = None if texture is None else np.divide(texture, 255, dtype=np.float32)
    with np.errstate(over="ignore"):
        vertices = np.concatenate([part.vertices for part in parts]).astype(np.float32)
    if not np.isfinite(vertices).all():
        raise ValueError("it has vertices that are not finite")
    return Mesh(
        torch.from_numpy(vertices),
        torch.from_numpy(faces.astype(np.int64)),
        None if uv is None else torch.from_numpy(uv.astype(np.float32)),
        None if picture is None else Texture(torch.from_numpy(picture)),
        None if rgb is None else torch.from_numpy(rgb.astype(np.float32)),
    )


def linear_from_srgb(value: np.ndarray) -> np.ndarray:
    """Decode sRGB in [0, 1] to linear light (IEC 61966-2-1)."""
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def srgb_from_linear(value: np.ndarray) -> np.ndarray:
    """Encode linear light as sRGB; clamps to [0, 1]."""
    value = np.clip(value, 0, 1)
    return np.where(value <= 0.0031308, value * 12.92, 1.055 * value ** (1 / 2.4) - 0.055)


def _uv(part: Part) -> np.ndarray:
    return np.zeros((len(part.vertices), 2)) if part.uv is None else part.uv


def _coloured(part: Part) -> Part:
    """Give a part that has no picture one of a single pixel."""
    if part.picture is not None:
        return part
    rgb = part.rgb
    if rgb.ndim == 2:
        _LOG.warning("a part with vertex colours beside textured parts gets their mean colour")
        rgb = rgb.mean(axis=0)
    pixel = np.round(rgb * 255).astype(np.uint8).reshape(1, 1, 3)
    return replace(part, picture=pixel, uv=np.full((len(part.vertices), 2), 0.5))


def _within_tile(part: Part) -> Part:
    """Bring the coordinates of a repeating texture into [0, 1], as our meshes do not repeat.

    Each face is shifted by whole tiles, which parts it from neighbours that shift otherwise. Where
    faces span several tiles the picture itself is repeated.
    """
    uv = part.uv
    if uv is None or part.picture is None or not part.repeats:
        return part
    if uv.min() >= -1e-4 and uv.max() <= 1 + 1e-4:  # rounding must not make a second tile
        return replace(part, uv=uv.clip(0, 1))
    corners = uv[part.faces]
    shift = np.floor(corners.min(axis=1) + 1e-4)
    keys = np.concatenate([part.faces[..., None], np.tile(shift[:, None], (1, 3, 1))], axis=2)
    unique, faces = np.unique(keys.reshape(-1, 3), axis=0, return_inverse=True)
    source = unique[:, 0].astype(np.int64)
    moved = uv[source] - unique[:, 1:]
    h, w = part.picture.shape[:2]
    tiles = np.clip(np.ceil(moved.max(axis=0) - 1e-4), 1, 1e9).astype(int)
    most = np.maximum(_LARGEST_PX // np.array([w, h]), 1)
    if (tiles > most).any():
        _LOG.warning("a texture repeats %dx%d times; that is cut to %dx%d", *tiles, *most)
        moved = np.minimum(moved, most)
        tiles = np.minimum(tiles, most)
    rgb = part.rgb if part.rgb.ndim == 1 else part.rgb[source]
    picture = part.picture
    if tiles.max() > 1:
        picture = np.tile(picture, (tiles[1], tiles[0], 1))
    return Part(
        part.vertices[source], faces.reshape(-1, 3), rgb, (moved / tiles).clip(0, 1), picture
    )


def _packed(parts: list[Part]) -> tuple[np.ndarray, np.ndarray]:
    """Pack the pictures on shelves, tallest first; give the new coordinates and the picture."""
    pictures = {id(part.picture): part.picture for part in parts if part.picture is not None}
    sizes = {key: np.array(p.shape[:2]) + 2 * _GUTTER_PX for key, p in pictures.items()}
    area = sum(int(size.prod()) for size in sizes.values())
    if area > 4 * _LARGEST_PX**2:
        raise ValueError(f"its textures hold {area // 1_000_000} megapixels, more than we join")
    widest = max(int(size[1]) for size in sizes.values())
    width = max(widest, 2 ** int(np.ceil(np.log2(np.sqrt(area)))))
    corner, x, y, shelf = {}, 0, 0, 0
    for key in sorted(sizes, key=lambda key: -int(sizes[key][0])):
        h, w = (int(s) for s in sizes[key])
        if x + w > width:
            x, y, shelf = 0, y + shelf, 0
        corner[key] = (y, x)
        x, shelf = x + w, max(shelf, h)
    height = y + shelf
    atlas = np.zeros((height, width, 3), np.uint8)
    for key, (top, left) in corner.items():
        h, w = sizes[key]
        border = ((_GUTTER_PX, _GUTTER_PX), (_GUTTER_PX, _GUTTER_PX), (0, 0))
        atlas[top : top + h, left : left + w] = np.pad(pictures[key], border, mode="edge")
    uv = []
    for part in parts:
        top, left = corner[id(part.picture)]
        h, w = pictures[id(part.picture)].shape[:2]
        place = np.array([left + _GUTTER_PX, top + _GUTTER_PX])
        uv.append((place + _uv(part).clip(0, 1) * [w, h]) / [width, height])
    return np.concatenate(uv), _shrunk(atlas)


def _shrunk(atlas: np.ndarray) -> np.ndarray:
    side = max(atlas.shape[:2])
    if side <= _LARGEST_PX:
        return atlas
    from PIL import Image as Pillow  # noqa: PLC0415

    _LOG.warning("the joined texture of %d px is shrunk to %d", side, _LARGEST_PX)
    h, w = (max(1, s * _LARGEST_PX // side) for s in atlas.shape[:2])
    return np.array(Pillow.fromarray(atlas).resize((w, h), Pillow.Resampling.BOX))
