"""Objects without end: random arrangements of textured parts.

In the manner of Xie et al., "LRM-Zero: Training Large Reconstruction Models with Synthesized Data",
2024 (Zeroverse): primitives, bent and bumped, put together at random and richly textured. Ours
are closed parametric surfaces (superquadrics, lathes, tori, boxes), each with a tile of one atlas.
"""

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from ..export.files import write_bytes
from ..export.glb import glb_bytes
from ..mesh import Mesh, Texture, centred
from .objects import ObjectFile

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
    count = int(rng.integers(1, 7))
    palette = rng.uniform(0, 1, (4, 3)) ** rng.uniform(0.5, 1.5)
    atlas = np.zeros((_COLUMNS * TILE_PX, _COLUMNS * TILE_PX, 3), np.float32)
    vertices, faces, uvs, offset = [], [], [], 0
    symmetric = rng.random() < 0.6
    for part in range(count):
        grid = _placed(_part(rng), rng, first=part == 0)
        tile = _pattern(rng, palette, crops)
        row, column = divmod(part, _COLUMNS)
        at = (
            slice(row * TILE_PX, (row + 1) * TILE_PX),
            slice(column * TILE_PX, (column + 1) * TILE_PX),
        )
        atlas[at] = tile
        copies = [grid]
        if symmetric and part and abs(grid[..., 0].mean()) > 0.1:
            copies.append((grid * np.array([-1, 1, 1]))[:, ::-1])  # Reversed: keeps faces outward.
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


def _part(rng: np.random.Generator) -> np.ndarray:
    """Give a closed surface as a grid of points, rows from pole to pole, columns around."""
    rows, columns = 21, 33
    polar = np.linspace(0, math.pi, rows)[:, None]
    around = np.linspace(0, 2 * math.pi, columns)[None, :]
    kind = rng.choice(["superquadric", "lathe", "torus", "box"], p=[0.35, 0.3, 0.1, 0.25])
    if kind == "torus":
        ring = rng.uniform(0.15, 0.4)
        polar = np.linspace(0, 2 * math.pi, rows)[:, None]
        radius = 1 - ring + ring * np.cos(polar)
        return np.stack(
            [radius * np.sin(around), ring * np.sin(polar) + 0 * around, radius * np.cos(around)],
            -1,
        )
    if kind == "lathe":
        height = np.linspace(1, -1, rows)[:, None]
        knots = rng.uniform(0.15, 1.0, int(rng.integers(3, 7)))
        radius = np.interp(np.linspace(0, 1, rows), np.linspace(0, 1, len(knots)), knots)[:, None]
        radius[[0, -1]] = 0
        height = np.clip(height * (rows / (rows - 2)), -1, 1)  # Flat caps.
        return np.stack([radius * np.sin(around), height + 0 * around, radius * np.cos(around)], -1)
    sharp = rng.uniform(0.1, 0.3, 2) if kind == "box" else rng.uniform(0.4, 1.6, 2)
    grid = np.stack(
        [
            _power(np.sin(polar), sharp[0]) * _power(np.sin(around), sharp[1]),
            _power(np.cos(polar), sharp[0]) + 0 * around,
            _power(np.sin(polar), sharp[0]) * _power(np.cos(around), sharp[1]),
        ],
        axis=-1,
    )
    if kind == "superquadric" and rng.random() < 0.5:  # Bumps along the surface.
        k, m = rng.integers(1, 5, 2)
        bump = 1 + rng.uniform(0, 0.15) * np.sin(k * 2 * polar) * np.cos(m * around)
        grid = grid * bump[..., None]
    return grid


def _placed(grid: np.ndarray, rng: np.random.Generator, *, first: bool) -> np.ndarray:
    size = rng.uniform(0.35, 1.0, 3) if first else rng.uniform(0.08, 0.6, 3)
    taper = 1 + rng.uniform(-0.5, 0.5) * grid[..., 1:2] * (rng.random() < 0.4)
    grid = grid * size * np.concatenate([taper, np.ones_like(taper), taper], axis=-1)
    if rng.random() < 0.5:
        yaw, pitch = rng.uniform(0, 2 * math.pi), rng.uniform(-0.7, 0.7)
        turn_y = np.array(
            [[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]]
        )
        turn_x = np.array(
            [
                [1, 0, 0],
                [0, math.cos(pitch), -math.sin(pitch)],
                [0, math.sin(pitch), math.cos(pitch)],
            ]
        )
        grid = grid @ (turn_x @ turn_y).T
    return grid if first else grid + rng.uniform(-0.8, 0.8, 3)


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
    elif kind < 0.92:
        mix = y if rng.random() < 0.7 else x
    else:  # Rows of short bars, like print.
        lines = int(rng.integers(4, 12))
        words = rng.random((lines, 16)) < 0.6
        inside = (y * lines) % 1 > 0.4
        mix = words[(y * lines).clip(0, lines - 1).astype(int), (x * 15.99).astype(int)] * inside
    return (a + (b - a) * np.asarray(mix)[..., None]).clip(0, 1).astype(np.float32)


def _power(value: np.ndarray, exponent: float) -> np.ndarray:
    return np.sign(value) * np.abs(value) ** exponent


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
