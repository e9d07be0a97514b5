"""`roundview fit`, `render` and `inspect`: what can be done with views and assets at hand."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import (
    AzimuthDeg,
    Device,
    DeviceOption,
    Distance,
    Faces,
    FovDeg,
    Json,
    Output,
    Quality,
    QualityOption,
    Quiet,
    Seed,
    Size,
    TextureSize,
    Threads,
    Watertight,
    check_cpu_only,
    check_fit,
    check_output,
    parse_numbers,
    use_threads,
)
from .progress import told

if TYPE_CHECKING:
    from ..camera import Cameras
    from ..views import Views

AssetFile = Annotated[Path, typer.Argument(help="GLB, OBJ, PLY, STL, 3MF, USDZ, .splat or .spz.")]


def fit(  # noqa: PLR0913  typer reads the options from the signature
    views_dir: Annotated[
        Path, typer.Argument(help="Folder of posed pictures: ours, nerfstudio, Blender, COLMAP.")
    ],
    output: Output,
    fit: Annotated[
        str, typer.Option(help="What the mesh comes from: splat, sdf, radiance, discs.")
    ] = "splat",
    quality: QualityOption = Quality.standard,
    texture_size: TextureSize = 1024,
    faces: Faces = 20_000,
    watertight: Watertight = False,
    seed: Seed = 0,
    device: DeviceOption = Device.auto,
    threads: Threads = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Turn posed pictures with alpha into an asset; the axes of their world are kept."""
    check_fit(fit)
    check_output(output)
    check_cpu_only(device, "fit")
    use_threads(threads)
    from dataclasses import replace  # noqa: PLC0415  with what it is used for

    from ..export import save_asset  # noqa: PLC0415  imports torch
    from ..export.transforms import load_views  # noqa: PLC0415
    from ..pipeline import fit_views, reconstruction_of  # noqa: PLC0415
    from ..stages import Stages, seeded  # noqa: PLC0415

    views = load_views(views_dir)
    chosen = reconstruction_of(quality)
    meshing = replace(chosen.meshing, texture_size=texture_size, faces=faces, watertight=watertight)
    settings = replace(chosen, meshing=meshing, surface=fit)
    with told(quiet=quiet, as_json=as_json) as listener:
        asset = fit_views(views, settings, Stages(seeded(seed), listener=listener))
        save_asset(asset, output)
        listener.say(f"wrote {output}", output=str(output))


def render(  # noqa: PLR0913  typer reads the options from the signature
    asset: AssetFile,
    output: Output,
    views: Annotated[int, typer.Option(min=1, max=1000, help="How many, evenly round.")] = 16,
    azimuth_deg: AzimuthDeg = None,
    elevation_deg: Annotated[float, typer.Option(min=-89.0, max=89.0, help="Of all views.")] = 30.0,
    size: Size = 256,
    distance: Distance = 1.5,
    fov_deg: FovDeg = 49.13,
    cameras: Annotated[
        Path | None, typer.Option(help="A transforms.json to look from instead.")
    ] = None,
    depth: Annotated[bool, typer.Option("--depth", help="Also depth, 16-bit PNG.")] = False,
    normal: Annotated[bool, typer.Option("--normal", help="Also normals, 16-bit PNG.")] = False,
    light: Annotated[bool, typer.Option("--light", help="Shade a mesh with a light.")] = False,
    threads: Threads = None,
) -> None:
    """Draw an asset: RGBA pictures and their cameras."""
    check_output(output)
    azimuths = None if azimuth_deg is None else parse_numbers(azimuth_deg, "--azimuth-deg")
    use_threads(threads)
    from dataclasses import replace  # noqa: PLC0415  with what it is used for

    from ..camera import Cameras  # noqa: PLC0415  imports torch
    from ..export.transforms import save_views  # noqa: PLC0415

    if cameras is not None:
        seen_from = _cameras_of(cameras)
    else:
        seen_from = Cameras.orbit(
            azimuths or [360.0 * k / views for k in range(views)],
            elevation_deg=elevation_deg,
            radius=distance,
            fov_deg=fov_deg,
            size_hw=(size, size),
        )
    drawn = _drawn(asset, seen_from, normal=normal, light=light)
    drawn = replace(
        drawn, depth=drawn.depth if depth else None, normal=drawn.normal if normal else None
    )
    save_views(drawn, output)


def inspect(asset: AssetFile, as_json: Json = False) -> None:
    """Say how healthy a mesh is, and what the Khronos validator finds."""
    from ..export.inspect import inspect as inspected  # noqa: PLC0415  imports torch

    _must_be_there(asset)
    found = inspected(asset)
    if as_json:
        print(json.dumps(found))
        return
    for key, value in found.items():
        print(f"{key:20} {value}")


def _cameras_of(path: Path) -> "Cameras":
    from ..export.files import read_json  # noqa: PLC0415  imports torch
    from ..export.transforms import cameras_from_transforms  # noqa: PLC0415

    try:
        return cameras_from_transforms(read_json(path))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _drawn(path: Path, cameras: "Cameras", *, normal: bool, light: bool) -> "Views":
    from ..export.convert import load_any  # noqa: PLC0415  imports torch
    from ..gaussians import Gaussians  # noqa: PLC0415

    _must_be_there(path)
    loaded = load_any(path)
    if isinstance(loaded, Gaussians):
        if normal or light:
            raise ValueError(f"{path} holds splats, which have no normals: drop --normal, --light")
        from ..splat.render import render_gaussians  # noqa: PLC0415  imports numba

        return render_gaussians(loaded, cameras)
    from ..surface.raster import Light, render_mesh  # noqa: PLC0415  imports numba

    return render_mesh(loaded, cameras, light=Light((0.4, 0.8, 0.6)) if light else None)


def _must_be_there(path: Path) -> None:
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
