"""Multi-view sets for training at scale: objects rendered into tar files, on all cores, resumable.

A shard is a tar in the webdataset manner (Aizman et al., "High Performance I/O For Large Scale Deep
Learning", 2019): the files of one object stand together and share a key. Each shard is a function
of the objects' list, the seed and the settings alone, is written under another name and renamed;
so any number of machines may work through one list, and a stopped run goes on where it was.
"""

import io
import json
import os
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from ..batch.local import LocalEngine
from ..batch.run import ends_of
from ..batch.tasks import Ended, Start, Work, one_line
from ..camera import Cameras, concatenate_cameras
from ..diffusion.orbit import FOV_DEG
from ..export.transforms import cameras_from_transforms, transforms_from_cameras
from ..mesh import Mesh
from ..models import Report, silent
from ..surface.raster import render_mesh
from ..views import Views
from .objects import ObjectFile
from .procedural import procedural_object
from .render_set import random_light

DEPTH_UNIT = 1 / 16384
"""Depth of one grey level of the 16-bit pictures, world units: up to 4 fits."""


def zero123_cameras(rng: np.random.Generator, size_px: int) -> Cameras:
    """Place 12 cameras as Zero-1-to-3's data have them: all round at random, 1.5 to 2.2 away.

    Liu et al., "Zero-1-to-3: Zero-shot One Image to 3D Object", 2023, and its rendering script:
    directions uniform on the sphere, 35 mm lens on a 32 mm sensor (49.1 degrees).
    """
    parts = []
    for _ in range(12):
        sine = float(rng.uniform(-0.9999, 0.9999))  # Straight up or down has no azimuth.
        parts.append(
            _camera(
                float(rng.uniform(0, 360)),
                float(np.degrees(np.arcsin(sine))),
                float(rng.uniform(1.5, 2.2)),
                size_px,
            )
        )
    return concatenate_cameras(parts)


def syncdreamer_cameras(rng: np.random.Generator, size_px: int) -> Cameras:
    """Place 32 cameras as SyncDreamer's data have them, all at distance 1.5.

    Liu et al., "SyncDreamer: Generating Multiview-consistent Images from a Single-view Image",
    2023: 16 targets evenly round at elevation 30, and 16 inputs at azimuths of the targets' spacing
    and random elevations in [-10, 40].
    """
    around = [360.0 * k / 16 for k in range(16)]
    targets = [_camera(azimuth, 30.0, 1.5, size_px) for azimuth in around]
    inputs = [_camera(a, float(rng.uniform(-10, 40)), 1.5, size_px) for a in around]
    return concatenate_cameras([*targets, *inputs])


def orbit_cameras(rng: np.random.Generator, size_px: int) -> Cameras:
    """Place 28 cameras as our orbit models want them: a ring of 16 and 12 from anywhere."""
    start, height = float(rng.uniform(0, 360)), float(rng.uniform(-10, 40))
    ring = [_camera(start + 22.5 * k, height, 1.5, size_px) for k in range(16)]
    free = [
        _camera(float(rng.uniform(0, 360)), float(rng.uniform(-45, 75)), 1.5, size_px)
        for _ in range(12)
    ]
    return concatenate_cameras([*ring, *free])


Placing = Callable[[np.random.Generator, int], Cameras]
PRESETS: dict[str, Placing] = {
    "zero123": zero123_cameras,
    "syncdreamer": syncdreamer_cameras,
    "orbit": orbit_cameras,
}
"""Where the cameras stand, by the name that the command line knows."""


@dataclass(frozen=True)
class ShardSettings:
    """How a set is rendered.

    Attributes:
        size_px: Side of the pictures.
        shard_objects: Objects of a shard; 64 objects of 12 views at 256 px are some 60 MB.
        lit_share: Share of the objects drawn under a random lamp; the others are unlit.
        supersample: Samples along a pixel's side.
        seed: Seed of poses and lamps, and of generated objects.
    """

    size_px: int = 256
    shard_objects: int = 64
    lit_share: float = 0.35
    supersample: int = 2
    seed: int = 0


class RenderedObject(NamedTuple):
    """One object of a shard."""

    name: str
    views: Views


def render_shards(
    objects: Sequence[ObjectFile] | int,
    directory: Path,
    *,
    cameras: Placing = orbit_cameras,
    settings: ShardSettings = ShardSettings(),
    part: tuple[int, int] = (0, 1),
    workers: int = 1,
    start: Start | None = None,
    report: Report = silent,
) -> list[Path]:
    """Render objects into shards, leaving alone those that are there.

    Args:
        objects: What to render; a number asks for so many generated objects.
        directory: Where `shard-000000.tar`, ... and `settings.json` go.
        cameras: Where they are seen from; one of `PRESETS`, or any function at a module's top.
        settings: How they are seen.
        part: (i, n) renders the shards i, i + n, ..., so that n machines may share the work.
        workers: How many work at a time.
        start: Starts them; None takes processes of this machine, and this one where one will do.
        report: Called with the fraction of this part's shards that are there.

    Returns:
        The paths of this part's shards. Objects that cannot be read are left out of theirs and
        listed in `failed.jsonl`.

    Raises:
        ValueError: If the folder holds shards of other settings, `part` is no part, or shards
            could not be rendered: those that could are there.
    """
    index, parts = part
    if not 0 <= index < parts:
        raise ValueError(f"part must be (i, n) with 0 <= i < n, got {part}")
    count = objects if isinstance(objects, int) else len(objects)
    shards = range(-(-count // settings.shard_objects))[index::parts]
    _agree(directory, count, cameras, settings)
    paths = [directory / f"shard-{number:06d}.tar" for number in shards]
    missing = [n for n, path in zip(shards, paths, strict=True) if not path.is_file()]
    there = len(paths) - len(missing)
    # Absolute, since workers elsewhere stand in other folders.
    rendering = _Rendering(objects, count, directory.resolve(), cameras, settings)
    failed: list[str] = []
    for done, ended in enumerate(_each(missing, rendering, workers, start), there + 1):
        if ended.error:
            failed.append(f"shard {ended.task}: {ended.error}")
        report(done / len(paths))
    if failed:
        raise ValueError(
            f"{len(failed)} of {len(paths)} shards are not there, and the same call tries them "
            f"again; {failed[0]}"
        )
    return paths


def read_shard(path: Path) -> Iterator[RenderedObject]:
    """Give the objects of a shard with their views, colour over white; depth 0 where nothing is.

    Precision is that of the files: 8 bits of colour and normal, `DEPTH_UNIT` of depth.
    """
    with tarfile.open(path) as archive:
        about: dict[str, Any] = {}
        pictures: dict[str, np.ndarray] = {}
        for member in archive:
            stream = archive.extractfile(member)
            if stream is None:
                continue
            if member.name.endswith(".cameras.json"):  # The last file of each object.
                about = json.loads(stream.read())
                yield _views(about, pictures)
                pictures = {}
            else:
                pictures[member.name.split(".", 1)[1]] = np.asarray(Image.open(stream))


@dataclass(frozen=True)
class _Rendering:
    """Builds the work of a worker: it takes numbers of shards."""

    objects: Sequence[ObjectFile] | int
    count: int
    directory: Path
    cameras: Placing
    settings: ShardSettings

    def __call__(self) -> Work:
        """Give what renders a shard."""
        return self._render

    def _render(self, number: int) -> Ended:
        begin = time.perf_counter()
        try:
            _write(number, self)
        except Exception as error:  # One shard must not take the others with it.
            return Ended(number, one_line(error), final=isinstance(error, ValueError))
        return Ended(number, seconds=time.perf_counter() - begin)


def _each(
    missing: list[int], rendering: _Rendering, workers: int, start: Start | None
) -> Iterator[Ended]:
    if start is None and (workers == 1 or len(missing) <= 1):
        for number in missing:
            _write(number, rendering)
            yield Ended(number)
        return
    if not missing:
        return
    staff = (start or LocalEngine)(rendering, count=min(workers, len(missing)), threads=1)
    try:
        for ended, _ in ends_of(missing, staff):
            yield ended
    finally:
        staff.close()


def _agree(directory: Path, count: int, cameras: Placing, settings: ShardSettings) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    wanted = {"objects": count, "cameras": cameras.__name__, **settings.__dict__}
    about = directory / "settings.json"
    if about.is_file() and (made := json.loads(about.read_text())) != wanted:
        odd = ", ".join(key for key in wanted if made.get(key) != wanted[key])
        raise ValueError(f"{directory} holds a set with another {odd}: name another folder")
    temporary = directory / f"settings.{os.getpid()}.tmp"
    temporary.write_text(json.dumps(wanted))
    temporary.replace(about)


def _write(number: int, job: _Rendering) -> None:
    settings, path = job.settings, job.directory / f"shard-{number:06d}.tar"
    first = number * settings.shard_objects
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    with tarfile.open(temporary, "w") as archive:
        for at in range(first, min(first + settings.shard_objects, job.count)):
            rng = np.random.default_rng([settings.seed, at])
            try:
                name, mesh = _object(job.objects, at, rng)
            except (ValueError, OSError) as error:
                with (job.directory / "failed.jsonl").open("a") as failed:
                    failed.write(json.dumps({"object": at, "error": str(error)}) + "\n")
                continue
            views = _drawn(mesh, job.cameras(rng, settings.size_px), rng, settings)
            _pack(archive, f"{at:09d}", name, views)
    temporary.replace(path)


def _object(
    objects: Sequence[ObjectFile] | int, at: int, rng: np.random.Generator
) -> tuple[str, Mesh]:
    if isinstance(objects, int):
        return f"generated/{at:09d}", procedural_object(rng)
    return objects[at].name, objects[at].read()


def _drawn(
    mesh: Mesh, cameras: Cameras, rng: np.random.Generator, settings: ShardSettings
) -> Views:
    light = random_light(rng) if rng.random() < settings.lit_share else None
    return render_mesh(mesh, cameras, light=light, supersample=settings.supersample)


def _pack(archive: tarfile.TarFile, key: str, name: str, views: Views) -> None:
    """Add the files of one object: colour, depth and normal of each view, then its cameras."""
    assert views.depth is not None
    assert views.normal is not None
    rgba = torch.cat([views.straight_rgb(), views.alpha[..., None]], dim=-1)
    colour = (rgba.clamp(0, 1) * 255 + 0.5).to(torch.uint8).numpy()
    depth = (views.depth / DEPTH_UNIT + 0.5).clamp(0, 65535).numpy().astype(np.uint16)
    normal = (views.normal * 127 + 128.5).clamp(0, 255).to(torch.uint8).numpy()
    for k in range(len(views)):
        for kind, picture in (("rgba", colour[k]), ("depth", depth[k]), ("normal", normal[k])):
            stream = io.BytesIO()
            Image.fromarray(picture).save(stream, "png", compress_level=1)
            _add(archive, f"{key}.{k:02d}.{kind}.png", stream.getvalue())
    files = [f"{key}.{k:02d}.rgba.png" for k in range(len(views))]
    about = {"name": name} | transforms_from_cameras(views.cameras, files)
    _add(archive, f"{key}.cameras.json", json.dumps(about).encode())


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    about = tarfile.TarInfo(name)  # Its time is 0: the same set has the same bytes.
    about.size = len(data)
    archive.addfile(about, io.BytesIO(data))


def _views(about: dict[str, Any], pictures: dict[str, np.ndarray]) -> RenderedObject:
    count = len(about["frames"])
    stacked = {
        kind: torch.from_numpy(
            np.stack([pictures[f"{k:02d}.{kind}.png"].astype(np.float32) for k in range(count)])
        )
        for kind in ("rgba", "depth", "normal")
    }
    rgba = stacked["rgba"] / 255
    alpha = rgba[..., 3]
    over_white = rgba[..., :3] * alpha[..., None] + (1 - alpha[..., None])
    normal = (stacked["normal"] - 128) / 127
    seen = normal.norm(dim=-1, keepdim=True) > 0.5
    normal = torch.where(seen, torch.nn.functional.normalize(normal, dim=-1), 0.0)
    h, w = alpha.shape[1:]
    cameras = cameras_from_transforms(about, size_hw=(h, w))
    depth = stacked["depth"] * DEPTH_UNIT
    return RenderedObject(about["name"], Views(over_white, alpha, cameras, depth, normal))


def _camera(azimuth_deg: float, elevation_deg: float, radius: float, size_px: int) -> Cameras:
    return Cameras.orbit(
        [azimuth_deg],
        elevation_deg=elevation_deg,
        radius=radius,
        fov_deg=FOV_DEG,
        size_hw=(size_px, size_px),
    )
