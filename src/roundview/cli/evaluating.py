"""`roundview eval`: named protocols over a data set."""

from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .comparing import compare, table
from .options import (
    Device,
    DeviceOption,
    Faces,
    Json,
    Output,
    PhotoElevation,
    Quality,
    QualityOption,
    Quiet,
    Recipe,
    Seed,
    Size,
    TextureSize,
    Threads,
    Watertight,
    Weights,
    check_cpu_only,
    check_fit,
    check_output,
    check_recipe,
    parse_elevation,
    use_threads,
)
from .progress import Silence, told
from .sharing import Address, EngineName, EngineOption, start_of, workers_of

if TYPE_CHECKING:
    from ..data.objects import ObjectFile
    from ..weights import Card

Data = Annotated[Path, typer.Option(help="Folder or zip of GLB files.")]
Objects = Annotated[
    str | None, typer.Option(help="Comma-separated names, without .glb; all of them.")
]

LpipsVgg = Annotated[
    Path | None, typer.Option(help="torchvision's VGG16, for LPIPS (VGG); never downloaded.")
]
LpipsAlex = Annotated[
    Path | None, typer.Option(help="torchvision's AlexNet, for LPIPS (Alex); never downloaded.")
]
Jobs = Annotated[int, typer.Option(min=1, help="Objects at a time, each in its own process.")]


class Rings(StrEnum):
    """Which true views are fitted."""

    three = "three"
    one = "one"


class ViewsProtocol(StrEnum):
    """How novel views are chosen."""

    nvs_syncdreamer = "nvs-syncdreamer"
    nvs_zero123 = "nvs-zero123"


class Forgiven(StrEnum):
    """What is done to a shape before it is compared."""

    none = "none"
    yaw = "yaw"
    icp = "icp"


evaluate = typer.Typer(help="Measure against ground truth.", no_args_is_help=True)


@evaluate.callback()
def protocols() -> None:
    """Measure against ground truth."""


@evaluate.command("nvs")
def nvs(  # noqa: PLR0913  typer reads the options from the signature
    data: Data,
    output: Output,
    recipe: Recipe = "im3d",
    weights: Weights = None,
    size: Size = 256,
    objects: Objects = None,
    protocol: Annotated[
        ViewsProtocol, typer.Option(help="All views of a ring, or one random view of another.")
    ] = ViewsProtocol.nvs_syncdreamer,
    with_recipe: Annotated[
        bool, typer.Option("--with-recipe", help="Run the whole recipe on each object, too.")
    ] = False,
    lpips_vgg: LpipsVgg = None,
    lpips_alex: LpipsAlex = None,
    deep_features: Annotated[
        bool, typer.Option("--deep-features", help="The shipped network's distance; not LPIPS.")
    ] = False,
    photo_elevation_deg: Annotated[
        str, typer.Option(help="What the model is told: 30, which is true, or auto to estimate it.")
    ] = "30",
    quality: QualityOption = Quality.standard,
    seed: Seed = 0,
    device: DeviceOption = Device.auto,
    threads: Threads = None,
    jobs: Jobs = 1,
    engine: EngineOption = EngineName.local,
    address: Address = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Mark drawings of novel views (PSNR, SSIM); the same command goes on after an interruption."""
    check_recipe(recipe)
    check_output(output)
    start = start_of(engine, address, device)
    elevation_deg = parse_elevation(photo_elevation_deg)
    use_threads(threads)
    if protocol is ViewsProtocol.nvs_zero123 and with_recipe:
        raise ValueError("--with-recipe: protocol nvs-zero123 asks for one view, not for an asset")
    from ..evaluate import nvs, pairs  # noqa: PLC0415  imports torch
    from ..evaluate.judges import load_judges  # noqa: PLC0415
    from ..evaluate.protocol import NvsProtocol  # noqa: PLC0415
    from ..methods import method_of  # noqa: PLC0415

    found = _chosen(data, objects)
    settings = replace(method_of(recipe).settings(quality), photo_elevation_deg=elevation_deg)
    ring = NvsProtocol(size_px=size)
    load = partial(nvs.load_measure, weights, str(device), settings, ring, recipe=recipe, seed=seed)
    judges = partial(
        load_judges, deep_features=deep_features, lpips_alex=lpips_alex, lpips_vgg=lpips_vgg
    )
    build = partial(load, with_recipe=with_recipe, judges=judges)
    with told(quiet=quiet, as_json=as_json) as listener:
        if protocol is ViewsProtocol.nvs_zero123:
            pair = partial(pairs.load_measure, load, pairs.PairProtocol(size_px=size))
            workers = workers_of(data, pair, jobs, threads, start)
            results = pairs.evaluate_pairs(
                found, pair(), output, workers=workers, listener=listener
            )
        else:
            workers = workers_of(data, build, jobs, threads, start)
            measure = build()
            results = nvs.evaluate_nvs(
                *(found, measure.candidate, output),
                protocol=ring,
                judges=measure.judges,
                workers=workers,
                listener=listener,
            )
        _conclude(results, output, listener)


@evaluate.command("ablation")
def ablation(  # noqa: PLR0913  typer reads the options from the signature
    data: Data,
    output: Output,
    recipe: Recipe = "im3d",
    weights: Weights = None,
    size: Size = 256,
    objects: Objects = None,
    quality: QualityOption = Quality.standard,
    seed: Seed = 0,
    device: DeviceOption = Device.auto,
    threads: Threads = None,
    jobs: Jobs = 1,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Mark a recipe with parts of it left out: what is each part worth?"""
    check_recipe(recipe)
    check_output(output)
    use_threads(threads)
    from ..evaluate import ablation as protocols  # noqa: PLC0415  imports torch
    from ..evaluate.nvs import load_measure  # noqa: PLC0415
    from ..evaluate.protocol import NvsProtocol  # noqa: PLC0415
    from ..methods import method_of  # noqa: PLC0415

    if recipe not in protocols.ABLATIONS:
        raise ValueError(f"--recipe {recipe}: ablations are of {', '.join(protocols.ABLATIONS)}")
    found, ring = _chosen(data, objects), NvsProtocol(size_px=size)
    settings = replace(method_of(recipe).settings(quality), photo_elevation_deg=ring.elevation_deg)
    load = partial(load_measure, weights, str(device), settings, ring, recipe=recipe, seed=seed)
    build = partial(protocols.load_measure, load)
    workers = workers_of(data, build, jobs, threads)
    with told(quiet=quiet, as_json=as_json) as listener:
        results = protocols.evaluate_ablation(
            found, build(), output, workers=workers, listener=listener
        )
        _conclude(results, output, listener)


@evaluate.command("reconstruct")
def reconstruct(  # noqa: PLR0913  typer reads the options from the signature
    data: Data,
    output: Output,
    views: Annotated[
        Rings, typer.Option(help="8 views each at elevations -20, 10, 50; or 16 at elevation 30.")
    ] = Rings.three,
    fit: Annotated[
        str, typer.Option(help="What the mesh comes from: splat, sdf, radiance or discs.")
    ] = "splat",
    quality: QualityOption = Quality.standard,
    texture_size: TextureSize = 1024,
    faces: Faces = 20_000,
    watertight: Watertight = False,
    size: Size = 256,
    objects: Objects = None,
    seed: Seed = 0,
    device: DeviceOption = Device.auto,
    threads: Threads = None,
    jobs: Jobs = 1,
    engine: EngineOption = EngineName.local,
    address: Address = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Fit true views, and mark splats and mesh; the same command goes on after an interruption."""
    check_fit(fit)
    check_output(output)
    start = start_of(engine, address, device)
    check_cpu_only(device, "eval reconstruct")
    use_threads(threads)
    from ..evaluate import reconstruct as protocols  # noqa: PLC0415  imports torch
    from ..pipeline import reconstruction_of  # noqa: PLC0415

    found = _chosen(data, objects)
    chosen = reconstruction_of(quality)
    meshing = replace(chosen.meshing, texture_size=texture_size, faces=faces, watertight=watertight)
    settings = replace(chosen, meshing=meshing, surface=fit)
    rings = {Rings.three: protocols.THREE_RINGS, Rings.one: protocols.ONE_RING}
    protocol = replace(rings[views], size_px=size)
    build = partial(protocols.ReconstructMeasure, settings, protocol, seed)
    workers = workers_of(data, build, jobs, threads, start)
    with told(quiet=quiet, as_json=as_json) as listener:
        results = protocols.evaluate_reconstruct(
            found, build(), output, workers=workers, listener=listener
        )
        _conclude(results, output, listener)


@evaluate.command("mesh")
def mesh(  # noqa: PLR0913  typer reads the options from the signature
    data: Data,
    output: Output,
    recipe: Recipe = "im3d",
    assets: Annotated[
        Path | None, typer.Option(help="Folder of NAME.glb that any program made, instead.")
    ] = None,
    alignment: Annotated[
        Forgiven, typer.Option(help="What is forgiven: none, a turn, or turn, size and place.")
    ] = Forgiven.none,
    weights: Weights = None,
    size: Size = 256,
    objects: Objects = None,
    quality: QualityOption = Quality.standard,
    seed: Seed = 0,
    device: DeviceOption = Device.auto,
    threads: Threads = None,
    jobs: Jobs = 1,
    engine: EngineOption = EngineName.local,
    address: Address = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Mark shapes made of one photograph; the same command goes on after an interruption."""
    check_recipe(recipe)
    check_output(output)
    start = start_of(engine, address, device)
    if assets is not None and not assets.is_dir():
        raise ValueError(f"--assets {assets}: no such folder")
    use_threads(threads)
    from ..evaluate import meshes as protocols  # noqa: PLC0415  imports torch
    from ..evaluate.protocol import NvsProtocol  # noqa: PLC0415
    from ..methods import method_of  # noqa: PLC0415

    found = _chosen(data, objects)
    protocol, how = NvsProtocol(size_px=size), alignment.value
    if assets is None:
        asked = method_of(recipe).settings(quality)
        settings = replace(asked, photo_elevation_deg=protocol.elevation_deg)
        build = partial(
            protocols.load_recipe_measure, weights, str(device), settings, protocol, how, seed
        )
        build = partial(build, recipe=recipe)
    else:
        source = protocols.FileMeshes(assets)
        build = partial(protocols.MeshMeasure, source, protocol, how, seed)
    workers = workers_of(data, build, jobs, threads, start)
    with told(quiet=quiet, as_json=as_json) as listener:
        results = protocols.evaluate_meshes(
            found, build(), output, workers=workers, listener=listener
        )
        _conclude(results, output, listener)


@evaluate.command("single-view")
def single_view(  # noqa: PLR0913  typer reads the options from the signature
    data: Annotated[Path, typer.Option(help="Folder of photographs.")],
    output: Output,
    recipe: Recipe = "im3d",
    assets: Annotated[
        Path | None,
        typer.Option(help="Folder of folders that `make` or `batch` wrote, instead."),
    ] = None,
    weights: Weights = None,
    size: Size = 256,
    quality: QualityOption = Quality.standard,
    photo_elevation_deg: PhotoElevation = "auto",
    lpips_vgg: LpipsVgg = None,
    lpips_alex: LpipsAlex = None,
    clip: Annotated[str | None, typer.Option(help="Card of an imported CLIP image tower.")] = None,
    vgg19: Annotated[
        Path | None, typer.Option(help="torchvision's VGG19, for contextual distances.")
    ] = None,
    seed: Seed = 0,
    device: DeviceOption = Device.auto,
    threads: Threads = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Mark assets made of photographs without a truth, by the photographs themselves."""
    check_recipe(recipe)
    check_output(output)
    elevation_deg = parse_elevation(photo_elevation_deg)
    use_threads(threads)
    from ..evaluate import single_view as protocols  # noqa: PLC0415  imports torch
    from ..evaluate.judges import load_judges  # noqa: PLC0415
    from ..evaluate.nvs import Candidate  # noqa: PLC0415
    from ..evaluate.protocol import NvsProtocol  # noqa: PLC0415
    from ..loaders.parts import Wanted, load_matte  # noqa: PLC0415
    from ..methods import method_of  # noqa: PLC0415
    from ..pipeline import adapted  # noqa: PLC0415

    photos = protocols.find_photos(data)
    judges = load_judges(
        deep_features=True, lpips_alex=lpips_alex, lpips_vgg=lpips_vgg, clip=clip, vgg19=vgg19
    )
    wanted = Wanted(weights, photo_elevation_deg=elevation_deg, device=str(device))
    cards: list[Card] = []
    if assets is not None:
        source = protocols.SavedAssets(assets, load_matte(wanted, cards), cards)
    else:
        method = method_of(recipe)
        settings = replace(method.settings(quality), photo_elevation_deg=elevation_deg)
        loaded = method.load(wanted)
        fitting = adapted(settings, loaded.asks)
        candidate = Candidate(loaded, fitting, recipe=recipe, seed=seed)
        source = protocols.RecipeAssets(candidate)
    measure = protocols.SingleViewMeasure(source, judges, NvsProtocol(size_px=size))
    with told(quiet=quiet, as_json=as_json) as listener:
        results = protocols.evaluate_single_view(photos, measure, output, listener=listener)
        _conclude(results, output, listener)


evaluate.command("compare")(compare)
evaluate.command("table")(table)


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
