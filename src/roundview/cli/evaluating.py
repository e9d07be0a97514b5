"""`roundview eval`: named protocols over a data set."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import (
    Device,
    DeviceOption,
    Json,
    Output,
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
from .progress import Silence, told

if TYPE_CHECKING:
    from ..data.objects import ObjectFile
    from ..evaluate.nvs import Candidate
    from ..evaluate.protocol import NvsProtocol

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
    objects: Annotated[
        str | None, typer.Option(help="Comma-separated names, without .glb; all of them.")
    ] = None,
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
    from ..evaluate.nvs import Candidate  # noqa: PLC0415  imports torch
    from ..evaluate.protocol import NvsProtocol  # noqa: PLC0415
    from ..loaders import load_models  # noqa: PLC0415
    from ..pipeline import settings_of  # noqa: PLC0415

    found = _chosen(data, objects)
    # The photographs come with their true alpha, so there is nothing to cut out.
    loaded = load_models(weights, use_matte=False, photo_elevation_deg=elevation_deg, device=device)
    settings = replace(settings_of(quality), photo_elevation_deg=elevation_deg)
    candidate = Candidate(loaded, settings, recipe=recipe, seed=seed, with_recipe=with_recipe)
    with told(quiet=quiet, as_json=as_json) as listener:
        mean = _measured(found, candidate, output, NvsProtocol(size_px=size), listener)
        listener.say(
            f"PSNR {mean['psnr']:.2f} dB, SSIM {mean['ssim']:.3f}, {mean['objects']} of "
            f"{mean['of']} objects; wrote {output / 'report.html'}",
            mean=mean,
        )


def _chosen(data: Path, names: str | None) -> "list[ObjectFile]":
    """Find the objects before the models are loaded: a wrong name is told at once."""
    from ..data.objects import find_objects  # noqa: PLC0415  imports torch
    from ..evaluate.nvs import choose_objects  # noqa: PLC0415

    found = find_objects(data)
    return found if names is None else choose_objects(found, names.split(","))


def _measured(
    found: "list[ObjectFile]",
    candidate: "Candidate",
    output: Path,
    protocol: "NvsProtocol",
    listener: Silence,
) -> dict[str, Any]:
    """Measure, write the results, and give their means."""
    from ..evaluate.nvs import evaluate_nvs, kept_strip  # noqa: PLC0415
    from ..evaluate.report import save_report  # noqa: PLC0415

    results = evaluate_nvs(found, candidate, output, protocol=protocol, listener=listener)
    done = [entry["name"] for entry in results["objects"] if "error" not in entry]
    save_report(results, {name: kept_strip(output, name) for name in done}, output)
    if not done:
        raise ValueError(f"no object could be measured; {output / 'report.html'} says why")
    return results["mean"]
