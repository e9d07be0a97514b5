"""`roundview eval`: named protocols over a data set."""

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import (
    Device,
    DeviceOption,
    Faces,
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
    Weights,
    check_output,
    check_recipe,
    parse_elevation,
    use_threads,
)
from .progress import Silence, told

if TYPE_CHECKING:
    from ..data.objects import ObjectFile

Data = Annotated[Path, typer.Option(help="Folder or zip of GLB files.")]
Objects = Annotated[
    str | None, typer.Option(help="Comma-separated names, without .glb; all of them.")
]


class Rings(StrEnum):
    """Which true views are fitted."""

    three = "three"
    one = "one"


evaluate = typer.Typer(help="Measure against ground truth.", no_args_is_help=True)


@evaluate.callback()
def protocols() -> None:
    """Measure against ground truth."""


@evaluate.command("nvs")
def nvs(  # noqa: PLR0913  typer reads the options from the signature
    data: Data,
    output: Output,
    recipe: Annotated[str, typer.Option(help="The method: im3d.")] = "im3d",
    weights: Weights = None,
    size: Size = 256,
    objects: Objects = None,
    with_recipe: Annotated[
        bool, typer.Option("--with-recipe", help="Run the whole recipe on each object, too.")
    ] = False,
    photo_elevation_deg: Annotated[
        str, typer.Option(help="What the model is told: 30, which is true, or auto to estimate it.")
    ] = "30",
    quality: QualityOption = Quality.standard,
    seed: Seed = 0,
    device: DeviceOption = Device.auto,
    threads: Threads = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Mark drawings of novel views (PSNR, SSIM); the same command goes on after an interruption."""
    check_recipe(recipe)
    check_output(output)
    elevation_deg = parse_elevation(photo_elevation_deg)
    use_threads(threads)
    from ..evaluate.nvs import Candidate, evaluate_nvs  # noqa: PLC0415  imports torch
    from ..evaluate.protocol import NvsProtocol  # noqa: PLC0415
    from ..loaders import load_models  # noqa: PLC0415
    from ..pipeline import settings_of  # noqa: PLC0415

    found = _chosen(data, objects)
    # The photographs come with their true alpha, so there is nothing to cut out.
    loaded = load_models(weights, use_matte=False, photo_elevation_deg=elevation_deg, device=device)
    settings = replace(settings_of(quality), photo_elevation_deg=elevation_deg)
    candidate = Candidate(loaded, settings, recipe=recipe, seed=seed, with_recipe=with_recipe)
    protocol = NvsProtocol(size_px=size)
    with told(quiet=quiet, as_json=as_json) as listener:
        results = evaluate_nvs(found, candidate, output, protocol=protocol, listener=listener)
        _conclude(results, output, listener)


@evaluate.command("reconstruct")
def reconstruct(  # noqa: PLR0913  typer reads the options from the signature
    data: Data,
    output: Output,
    views: Annotated[
        Rings, typer.Option(help="8 views each at elevations -20, 10, 50; or 16 at elevation 30.")
    ] = Rings.three,
    quality: QualityOption = Quality.standard,
    texture_size: TextureSize = 1024,
    faces: Faces = 20_000,
    watertight: Watertight = False,
    size: Size = 256,
    objects: Objects = None,
    seed: Seed = 0,
    threads: Threads = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Fit true views, and mark splats and mesh; the same command goes on after an interruption."""
    check_output(output)
    use_threads(threads)
    from ..evaluate import reconstruct as protocols  # noqa: PLC0415  imports torch
    from ..pipeline import reconstruction_of  # noqa: PLC0415

    found = _chosen(data, objects)
    chosen = reconstruction_of(quality)
    meshing = replace(chosen.meshing, texture_size=texture_size, faces=faces, watertight=watertight)
    settings = replace(chosen, meshing=meshing)
    rings = {Rings.three: protocols.THREE_RINGS, Rings.one: protocols.ONE_RING}
    measure = protocols.ReconstructMeasure(settings, replace(rings[views], size_px=size), seed=seed)
    with told(quiet=quiet, as_json=as_json) as listener:
        results = protocols.evaluate_reconstruct(found, measure, output, listener=listener)
        _conclude(results, output, listener)


def _chosen(data: Path, names: str | None) -> "list[ObjectFile]":
    """Find the objects before the models are loaded: a wrong name is told at once."""
    from ..data.objects import find_objects  # noqa: PLC0415  imports torch
    from ..evaluate.keeping import choose_objects  # noqa: PLC0415

    found = find_objects(data)
    return found if names is None else choose_objects(found, names.split(","))


def _conclude(results: dict[str, Any], output: Path, listener: Silence) -> None:
    """Write the results, and say what they come to.

    Raises:
        ValueError: If no object could be measured.
    """
    from ..evaluate.keeping import kept_strip  # noqa: PLC0415  imports torch
    from ..evaluate.marks import MARKS, known_marks, shown  # noqa: PLC0415
    from ..evaluate.report import save_report  # noqa: PLC0415

    done = [entry["name"] for entry in results["objects"] if "error" not in entry]
    save_report(results, {name: kept_strip(output, name) for name in done}, output)
    if not done:
        raise ValueError(f"no object could be measured; {output / 'report.html'} says why")
    mean = results["mean"]
    row = mean["rows"][results["main"]]
    marks = [f"{MARKS[key].label} {shown(key, row[key])}" for key in known_marks({"": row})]
    listener.say(
        f"{'; '.join(marks)}; {mean['objects']} of {mean['of']} objects; alignment: "
        f"{results['alignment']}; wrote {output / 'report.html'}",
        mean=mean,
    )
