"""Write a finished asset to a folder: every file that a user looks for."""

import math
from pathlib import Path

import torch

from ..camera import Cameras
from ..image import Foreground, Image
from ..mesh import Asset, Mesh
from ..views import Views, concatenate_views
from .files import atomic_directory, write_json, write_png
from .glb import save_glb
from .ply import save_splats
from .sheet import preview
from .transforms import save_views
from .video import save_video

_FOV_DEG = 40.0
_TURNTABLE_FRAMES = 48
_TURNTABLE_PX = 320
_FPS = 20.0


def save_asset(
    asset: Asset,
    directory: Path | str,
    *,
    photo: Image | None = None,
    subject: Foreground | None = None,
) -> None:
    """Write an asset: asset.glb, splats.ply, turntable.mp4, preview.png, views/ and record.json.

    Splats and views are written where the asset has them. All files appear together once they are
    whole, the record last; other files in the folder stay.

    Args:
        asset: What a recipe made.
        directory: Where to; made where it is missing.
        photo: The photograph, for the preview.
        subject: The subject cut out of it, for the preview; else the first of the asset's views.
    """
    directory = Path(directory)
    with atomic_directory(directory) as folder:
        save_glb(asset.mesh, folder / "asset.glb")
        if asset.gaussians is not None:
            save_splats(asset.gaussians, folder / "splats.ply")
        if asset.views is not None:
            save_views(asset.views, folder / "views")
        turntable = _renders(asset.mesh, _TURNTABLE_FRAMES, _TURNTABLE_PX, lit=True)
        save_video(turntable.rgb, folder / "turntable.mp4", fps=_FPS)
        sheet = preview(
            photo=None if photo is None else photo.rgb,
            matte=_matte(asset, subject),
            drawn=asset.views,
            renders=_renders(asset.mesh, 8, 192, lit=False),
        )
        write_png(folder / "preview.png", sheet)
    write_json(directory / "record.json", asset.record)


def orbit_round(mesh: Mesh, *, count: int, size_px: int, elevation_deg: float = 15.0) -> Cameras:
    """Place cameras on a ring from which all of the mesh is seen, the first one at the front."""
    radius = float(mesh.vertices.norm(dim=-1).max())
    return Cameras.orbit(
        [360.0 * at / count for at in range(count)],
        elevation_deg=elevation_deg,
        radius=max(1.03 * radius / math.sin(math.radians(_FOV_DEG / 2)), 1e-3),
        fov_deg=_FOV_DEG,
        size_hw=(size_px, size_px),
    )


def _renders(mesh: Mesh, count: int, size_px: int, *, lit: bool) -> Views:
    from ..surface.raster import Light, render_mesh  # noqa: PLC0415  brings numba

    # Gentle: the texture of a photographed subject has some shading in it already.
    light = Light((0.4, 1.0, 0.8), ambient=0.8, diffuse=0.25) if lit else None
    cameras = orbit_round(mesh, count=count, size_px=size_px)
    # A few at a time: the samples of 48 frames at once took over 2 GB.
    parts = [cameras[first : first + 6] for first in range(0, count, 6)]
    return concatenate_views(
        [render_mesh(mesh, part, light=light, geometry=not lit) for part in parts]
    )


def _matte(asset: Asset, subject: Foreground | None) -> torch.Tensor | None:
    if subject is not None:
        return torch.cat([subject.rgb, subject.alpha[..., None]], dim=-1)
    if asset.views is None or not len(asset.views):
        return None
    first = asset.views[0]
    return torch.cat([first.straight_rgb()[0], first.alpha[0, ..., None]], dim=-1)
