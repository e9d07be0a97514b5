"""Render objects into a multi-view set that trains the orbit models."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..camera import Cameras
from ..diffusion.orbit import DISTANCE, FOV_DEG
from ..mesh import Mesh
from ..models import Report, silent
from ..surface.raster import Light, render_mesh


@dataclass(frozen=True)
class RenderSettings:
    """How each object is seen.

    Attributes:
        size_px: Side of the pictures.
        rings: Rings of equally spaced views; each has one elevation, drawn from `elevation_deg`.
        ring_views: Views of a ring.
        free_views: Further views, from all round at elevations in `free_elevation_deg`.
        elevation_deg: Range of the rings' elevations.
        free_elevation_deg: Range of the free views' elevations.
        lit_share: Share of the objects drawn under a random lamp; the others are unlit.
        supersample: Samples along a pixel's side.
    """

    size_px: int = 64
    rings: int = 2
    ring_views: int = 16
    free_views: int = 12
    elevation_deg: tuple[float, float] = (-10.0, 40.0)
    free_elevation_deg: tuple[float, float] = (-45.0, 75.0)
    lit_share: float = 0.35
    supersample: int = 3

    @property
    def views(self) -> int:
        """Pictures of each object."""
        return self.rings * self.ring_views + self.free_views


@dataclass(frozen=True, eq=False)
class MultiViewSet:
    """Pictures of many objects, 8-bit, colour over white with alpha as the fourth channel.

    Attributes:
        rgba: o x n x h x w x 4 uint8; may be a memory map.
        azimuth_deg: o x n float32.
        elevation_deg: o x n float32.
        names: One name an object.
        settings: How they were rendered; views come ring by ring, then the free ones.
    """

    rgba: np.ndarray
    azimuth_deg: np.ndarray
    elevation_deg: np.ndarray
    names: list[str]
    settings: RenderSettings

    def __len__(self) -> int:
        """Count the objects."""
        return len(self.names)


def render_set(
    objects: Iterable[tuple[str, Mesh]],
    count: int,
    directory: Path,
    *,
    seed: int = 0,
    settings: RenderSettings = RenderSettings(),
    report: Report = silent,
) -> MultiViewSet:
    """Render objects to `directory`, or read what is there if it is finished and was made alike.

    Args:
        objects: Names and meshes, centred, longest side 1; read one at a time.
        count: How many objects to take.
        directory: Where `pictures.npy`, `poses.npz` and `set.json` go.
        seed: Seed of the views and lamps.
        settings: How each object is seen.
        report: Called with the fraction done.
    """
    done = directory / "set.json"
    wanted = {"count": count, "seed": seed, "settings": json.loads(json.dumps(asdict(settings)))}
    if done.is_file() and json.loads(done.read_text())["made_with"] == wanted:
        return load_set(directory)
    directory.mkdir(parents=True, exist_ok=True)
    done.unlink(missing_ok=True)
    size = settings.size_px
    shape = (count, settings.views, size, size, 4)
    rgba = np.lib.format.open_memmap(directory / "pictures.npy", "w+", np.uint8, shape)
    rng = np.random.default_rng(seed)
    names: list[str] = []
    azimuths, elevations = [], []
    for index, (name, mesh) in enumerate(objects):
        if index == count:
            break
        rgba[index], azimuth, elevation = object_views(mesh, rng, settings)
        azimuths.append(azimuth)
        elevations.append(elevation)
        names.append(name)
        report((index + 1) / count)
    if len(names) < count:
        raise ValueError(f"count is {count}, but only {len(names)} objects were given")
    rgba.flush()
    np.savez(directory / "poses.npz", azimuth=np.stack(azimuths), elevation=np.stack(elevations))
    done.write_text(json.dumps({"made_with": wanted, "names": names}))
    return load_set(directory)


def load_set(directory: Path) -> MultiViewSet:
    """Open a rendered set; the pictures stay on disk until they are read."""
    about = json.loads((directory / "set.json").read_text())
    with np.load(directory / "poses.npz") as poses:
        azimuth, elevation = poses["azimuth"], poses["elevation"]
    fields: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in about["made_with"]["settings"].items()
    }
    pictures = np.load(directory / "pictures.npy", mmap_mode="r")
    return MultiViewSet(pictures, azimuth, elevation, about["names"], RenderSettings(**fields))


def object_views(
    mesh: Mesh, rng: np.random.Generator, settings: RenderSettings
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw one object from random poses: n h w 4 pictures, n azimuths, n elevations (degrees)."""
    azimuth, elevation = _poses(rng, settings)
    return _pictures(mesh, azimuth, elevation, rng, settings), azimuth, elevation


def _poses(rng: np.random.Generator, settings: RenderSettings) -> tuple[np.ndarray, np.ndarray]:
    azimuth, elevation = [], []
    for _ in range(settings.rings):
        azimuth.append(
            rng.uniform(0, 360) + np.arange(settings.ring_views) * 360 / settings.ring_views
        )
        elevation.append(np.full(settings.ring_views, rng.uniform(*settings.elevation_deg)))
    azimuth.append(rng.uniform(0, 360, settings.free_views))
    elevation.append(rng.uniform(*settings.free_elevation_deg, settings.free_views))
    return (
        (np.concatenate(azimuth) % 360).astype(np.float32),
        np.concatenate(elevation).astype(np.float32),
    )


def _pictures(
    mesh: Mesh,
    azimuth: np.ndarray,
    elevation: np.ndarray,
    rng: np.random.Generator,
    settings: RenderSettings,
) -> np.ndarray:
    cameras = Cameras.orbit(
        azimuth.tolist(),
        elevation_deg=elevation.tolist(),
        radius=DISTANCE,
        fov_deg=FOV_DEG,
        size_hw=(settings.size_px, settings.size_px),
    )
    light = random_light(rng) if rng.random() < settings.lit_share else None
    views = render_mesh(
        mesh, cameras, light=light, supersample=settings.supersample, geometry=False
    )
    rgba = torch.cat([views.rgb, views.alpha[..., None]], dim=-1)
    return (rgba.clamp(0, 1) * 255 + 0.5).to(torch.uint8).numpy()


def random_light(rng: np.random.Generator) -> Light:
    """Hang a lamp somewhere above, of random strength; exposure stays about the same."""
    aim = rng.normal(size=3)
    aim[1] = abs(aim[1]) + 0.3  # From above, as most lamps are.
    diffuse = rng.uniform(0.2, 0.6)
    ambient = rng.uniform(0.85, 1.05) - 0.6 * diffuse
    return Light((float(aim[0]), float(aim[1]), float(aim[2])), ambient, diffuse)
