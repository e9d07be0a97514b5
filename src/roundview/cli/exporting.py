"""`roundview export`: one asset, in the format that another program wants."""

from pathlib import Path
from typing import Annotated

import typer


def export(
    asset: Annotated[
        Path,
        typer.Argument(help="GLB, OBJ, PLY, STL, 3MF, USDZ, .splat, .spz, or what `make` wrote."),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            help="A file: .glb .obj .ply .stl .3mf .usdz, or .ply .splat .spz for splats.",
        ),
    ],
    height_mm: Annotated[
        float | None,
        typer.Option(min=1e-3, help="How tall it stands: .stl, .3mf (else 80) and .usdz."),
    ] = None,
    quantize: Annotated[
        bool, typer.Option("--quantize", help="Halve a GLB's vertices (KHR_mesh_quantization).")
    ] = False,
    faces: Annotated[int | None, typer.Option(min=4, help="Triangles at most.")] = None,
) -> None:
    """Write an asset in another format; of a folder the mesh, but the splats for .splat, .spz."""
    from ..export.convert import check_suffix, load_any, save_as  # noqa: PLC0415  imports torch
    from ..gaussians import Gaussians  # noqa: PLC0415

    if output.is_dir():
        raise ValueError(f"-o {output} is a folder; name a file")
    suffix = output.suffix.lower()
    source = _file_of(asset, suffix)
    loaded = load_any(source)
    splats = isinstance(loaded, Gaussians)
    try:
        check_suffix(suffix, splats=splats)
    except ValueError as error:
        raise ValueError(f"-o {output}: {error}") from error
    if faces is not None:
        if isinstance(loaded, Gaussians):
            raise ValueError(f"--faces {faces}: {source} holds splats, which have none")
        from ..export.reduce import reduced  # noqa: PLC0415  only where it is asked for

        loaded = reduced(loaded, faces)
    save_as(loaded, output, height_mm=height_mm, quantize=quantize)


def _file_of(asset: Path, suffix: str) -> Path:
    """Find the file to read: of a folder, the one that holds what the suffix asks for."""
    if not asset.is_dir():
        if not asset.is_file():
            raise ValueError(f"{asset}: no such file or folder")
        return asset
    name = "splats.ply" if suffix in (".splat", ".spz") else "asset.glb"
    if not (asset / name).is_file():
        raise ValueError(
            f"{asset} holds no {name}: name a folder made by `roundview make`, or a file"
        )
    return asset / name
