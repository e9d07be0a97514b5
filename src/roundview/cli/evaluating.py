"""`roundview eval`: named protocols over a data set."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from .options import (
    Device,
    DeviceOption,
    Json,
    Output,
    PhotoElevation,
    Quality,
    QualityOption,
    Quiet,
    Seed,
    Size,
    Threads,
    Weights,
    check_output,
    check_recipe,
    parse_elevation,
    use_threads,
)
from .progress import told

evaluate = typer.Typer(help="Measure against ground truth.", no_args_is_help=True)


@evaluate.callback()
def protocols() -> None:
    """Measure against ground truth."""


@evaluate.command("nvs")
def nvs(  # noqa: PLR0913  typer reads the options from the signature
    data: Annotated[Path, typer.Option(help="Folder or zip of GLB files.")],
    output: Output,
    recipe: Annotated[str, typer.Option(help="The method: im3d.")] = "im3d",
    weights: Weights = None,
    size: Size = 256,
    objects: Annotated[str | None, typer.Option(help="Comma-separated names; all.")] = None,
    with_recipe: Annotated[
        bool, typer.Option("--with-recipe", help="Run the whole recipe on each object, too.")
    ] = False,
    photo_elevation_deg: PhotoElevation = "auto",
    quality: QualityOption = Quality.standard,
    seed: Seed = 0,
    device: DeviceOption = Device.auto,
    threads: Threads = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Draw novel views of objects whose every side is known, and measure them."""
    check_recipe(recipe)
    check_output(output)
    elevation = parse_elevation(photo_elevation_deg)
    use_threads(threads)
    from ..data.objects import find_objects  # noqa: PLC0415  imports torch
    from ..evaluate.nvs import (  # noqa: PLC0415
        Candidate,
        choose_objects,
        evaluate_nvs,
        kept_strip,
    )
    from ..evaluate.protocol import NvsProtocol  # noqa: PLC0415
    from ..evaluate.report import save_report  # noqa: PLC0415
    from ..loaders import load_models  # noqa: PLC0415
    from ..pipeline import settings_of  # noqa: PLC0415

    found = find_objects(data)
    if objects is not None:
        found = choose_objects(found, [name.strip() for name in objects.split(",")])
    loaded = load_models(weights, photo_elevation_deg=elevation, device=device)
    settings = replace(settings_of(quality), photo_elevation_deg=elevation)
    candidate = Candidate(loaded, settings, recipe, seed, with_recipe)
    with told(quiet=quiet, as_json=as_json) as listener:
        results = evaluate_nvs(
            found, candidate, output, protocol=NvsProtocol(size_px=size), listener=listener
        )
        strips = {
            entry["name"]: kept_strip(output, entry["name"])
            for entry in results["objects"]
            if "error" not in entry
        }
        save_report(results, strips, output)
        listener.say(f"PSNR {results['mean']['psnr']} dB; wrote {output}", mean=results["mean"])
