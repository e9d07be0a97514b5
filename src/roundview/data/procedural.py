"""Objects without end: random arrangements of textured parts.

In the manner of Xie et al., "LRM-Zero: Training Large Reconstruction Models with Synthesized Data",
2024 (Zeroverse): primitives, bent and bumped, put together at random and richly textured. Ours
are the closed surfaces of `shapes.py`, in several plans, each part with a tile of one atlas.
"""

import functools
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from ..export.files import write_bytes
from ..export.glb import glb_bytes
from ..mesh import Mesh, Texture, centred
from .objects import ObjectFile
from .shapes import random_parts

TILE_PX = 64
_COLUMNS = 3


def procedural_object(rng: np.random.Generator, crops: list[np.ndarray] | None = None) -> Mesh:
    """Make one object.

    Args:
        rng: Source of all choices; the same state gives the same object.
        crops: Pictures (h w 3 in [0, 1]) to cut texture from, on top of the generated patterns.

    Returns:
        A textured mesh, centred, longest side 1.
    """
    palette = rng.uniform(0, 1, (4, 3)) ** rng.uniform(0.5, 1.5)
    atlas = np.zeros((_COLUMNS * TILE_PX, _COLUMNS * TILE_PX, 3), np.float32)
    vertices, faces, uvs, offset = [], [], [], 0
    for part, copies in enumerate(random_parts(rng)):
        row, column = divmod(part, _COLUMNS)
        at = (
            slice(row * TILE_PX, (row + 1) * TILE_PX),
            slice(column * TILE_PX, (column + 1) * TILE_PX),
        )
        atlas[at] = _pattern(rng, palette, crops)
        for copy in copies:
            rows, columns = copy.shape[:2]
            vertices.append(copy.reshape(-1, 3))
            faces.append(_grid_faces(rows, columns) + offset)
            uvs.append(_grid_uv(rows, columns, row, column))
            offset += rows * columns
    mesh = Mesh(
        torch.from_numpy(np.concatenate(vertices).astype(np.float32)),
        torch.from_numpy(np.concatenate(faces).astype(np.int64)),
        torch.from_numpy(np.concatenate(uvs).astype(np.float32)),
        Texture(torch.from_numpy(atlas)),
    )
    return centred(mesh)[0]


def write_procedural(directory: Path, count: int, seed: int) -> Path:
    """Write generated objects as GLB files, to train on where there are no others; once.

    Returns:
        The folder. Object i is the same whatever the count.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for at in range(count):
        path = directory / f"{at:06d}.glb"
        if not path.is_file():
            mesh = procedural_object(np.random.default_rng([seed, at]))
            write_bytes(path, glb_bytes(mesh))
    return directory


def generated_objects(count: int, seed: int) -> list[ObjectFile]:
    """Give objects that are generated when they are read, each the same every time."""
    return [
        ObjectFile(f"generated/{at:06d}", functools.partial(_generated, seed, at))
        for at in range(count)
    ]


def _generated(seed: int, at: int) -> Mesh:
    return procedural_object(np.random.default_rng([seed, at]))


def textures_to_crop(objects: Iterable[ObjectFile]) -> list[np.ndarray]:
    """Give the textures worth cutting tiles from.

    Only busy ones serve: palettes and plain colours would be cut into plain tiles.
    """
    crops = []
    for item in objects:
        texture = item.read().texture
        if (
            texture is not None
            and min(texture.rgb.shape[:2]) >= 64
            and float(texture.rgb.std()) > 0.15
        ):
            crops.append(texture.rgb.numpy())
    return crops


def _pattern(
    rng: np.random.Generator, palette: np.ndarray, crops: list[np.ndarray] | None
) -> np.ndarray:
    """Paint one tile: plain, noise, stripes, checks, a gradient, rows of bars or a crop."""
    from scipy.ndimage import zoom  # noqa: PLC0415  scipy is slow to import

    a, b = palette[rng.integers(0, len(palette), 2)]
    y, x = np.meshgrid(np.linspace(0, 1, TILE_PX), np.linspace(0, 1, TILE_PX), indexing="ij")
    kind = rng.random()
    if crops and kind < 0.35:
        crop = crops[int(rng.integers(0, len(crops)))]
        side = min(crop.shape[:2])
        span = int(rng.integers(max(side // 4, 1), side + 1))
        top, left = (
            rng.integers(0, crop.shape[0] - span + 1),
            rng.integers(0, crop.shape[1] - span + 1),
        )
        index = np.linspace(0, span - 1, TILE_PX).astype(int)
        return crop[top + index][:, left + index].astype(np.float32)
    if kind < 0.5:
        mix = np.zeros_like(x) + rng.random()
    elif kind < 0.65:
        cells = int(rng.integers(3, 12))
        mix = np.asarray(zoom(rng.random((cells, cells)), TILE_PX / cells, order=1))
    elif kind < 0.78:
        slope = rng.uniform(-1, 1, 2)
        mix = (np.sin((x * slope[0] + y * slope[1]) * rng.uniform(10, 60)) > 0).astype(float)
    elif kind < 0.84:
        cells = rng.integers(2, 9, 2)
        mix = (((x * cells[0]).astype(int) + (y * cells[1]).astype(int)) % 2).astype(float)
    elif kind < 0.88:
        mix = y if rng.random() < 0.7 else x
    elif kind < 0.95:
        mix = _print(rng)
    else:
        cells = int(rng.integers(2, 8))
        mix = (np.hypot((x * cells) % 1 - 0.5, (y * cells) % 1 - 0.5) < 0.3).astype(float)
    return (a + (b - a) * np.asarray(mix)[..., None]).clip(0, 1).astype(np.float32)


def _print(rng: np.random.Generator) -> np.ndarray:
    """Write lines of random letters on a tile."""
    from PIL import Image, ImageDraw, ImageFont  # noqa: PLC0415  only where it is needed

    letters = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789  "))
    page = Image.new("L", (TILE_PX, TILE_PX))
    size = float(rng.uniform(8, 36))
    font = ImageFont.load_default(size)
    for top in np.arange(1, TILE_PX, size * 1.1):
        line = "".join(rng.choice(letters, 12))
        ImageDraw.Draw(page).text((1, float(top)), line, fill=255, font=font)
    return np.asarray(page).astype(float) / 255


def _grid_faces(rows: int, columns: int) -> np.ndarray:
    i = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)[None]).reshape(-1)
    below = np.stack([i, i + columns, i + columns + 1], axis=-1)
    above = np.stack([i, i + columns + 1, i + 1], axis=-1)
    return np.concatenate([below, above])


def _grid_uv(rows: int, columns: int, tile_row: int, tile_column: int) -> np.ndarray:
    inset = 1.0 / TILE_PX  # Keeps bilinear lookups inside the tile.
    v, u = np.meshgrid(
        np.linspace(inset, 1 - inset, rows), np.linspace(inset, 1 - inset, columns), indexing="ij"
    )
    return np.stack([(u + tile_column) / _COLUMNS, (v + tile_row) / _COLUMNS], axis=-1).reshape(
        -1, 2
    )
