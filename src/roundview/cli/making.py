"""`roundview make` and `roundview views`: from a photo to an asset, or to novel views."""

import gc
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
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
    MemoryGb,
    Output,
    PhotoElevation,
    Prompt,
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
    check_fit,
    check_output,
    check_prompt,
    check_recipe,
    parse_elevation,
    parse_numbers,
    use_threads,
)
from .progress import Silence, told

if TYPE_CHECKING:
    from torch import Tensor

    from ..image import Image
    from ..loaders import Wanted
    from ..models import Matte
    from ..pipeline import Job
    from ..stages import Stages
    from ..views import Views

    Enhancing = Callable[[Image, Matte, Views, int, Stages], Views]
Photo = Annotated[Path, typer.Argument(help="PNG, JPEG, WebP, TIFF, BMP or GIF.")]
MaskFile = Annotated[Path | None, typer.Option(help="Picture that is white on the object.")]
NoMatte = Annotated[bool, typer.Option("--no-matte", help="The whole picture is the object.")]


class Enhance(StrEnum):
    """How drawn views are drawn anew with the photo's texture."""

    none = "none"
    rgnv = "rgnv"
    released_code = "rgnv-released-code"


def make(  # noqa: PLR0913  typer reads the options from the signature
    photo: Photo,
    output: Output,
    recipe: Recipe = "im3d",
    fit: Annotated[
        str | None,
        typer.Option(
            help="What the mesh comes from: splat, sdf, radiance, discs; as the recipe has it."
        ),
    ] = None,
    weights: Weights = None,
    prompt: Prompt = None,
    quality: QualityOption = Quality.standard,
    seed: Seed = 0,
    device: DeviceOption = Device.auto,
    memory_gb: MemoryGb = None,
    threads: Threads = None,
    mask: MaskFile = None,
    no_matte: NoMatte = False,
    photo_elevation_deg: PhotoElevation = "auto",
    texture_size: TextureSize = 1024,
    faces: Faces = 20_000,
    watertight: Watertight = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on after the last stage that was finished.")
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Turn the object in a photo into a textured mesh, splats and a turntable."""
    check_recipe(recipe)
    if fit is not None:
        check_fit(fit)
    check_output(output)
    elevation = parse_elevation(photo_elevation_deg)
    use_threads(threads)
    image, painted = _read(photo, mask, no_matte)
    from ..loaders import Wanted  # noqa: PLC0415  imports torch
    from ..methods import method_of  # noqa: PLC0415
    from ..pipeline import Job, adapted, with_surface  # noqa: PLC0415

    method = method_of(recipe)
    wanted = Wanted(weights, painted, not no_matte, elevation, str(device), memory_gb, prompt)
    loaded = method.load(wanted)
    check_prompt(prompt, recipe, read=loaded.prompt is not None)
    settings = replace(
        method.settings(quality),
        photo_elevation_deg=elevation,
        texture_size=texture_size,
        faces=faces,
        watertight=watertight,
    )
    if fit is not None:
        settings = with_surface(settings, fit)
    job = Job(image, loaded, adapted(settings, loaded.asks), seed=seed, recipe=recipe)
    with told(quiet=quiet, as_json=as_json) as listener:
        _run(job, output, resume, listener)


def views(  # noqa: PLR0913  typer reads the options from the signature
    photo: Photo,
    output: Output,
    recipe: Recipe = "im3d",
    azimuth_deg: AzimuthDeg = None,
    elevation_deg: Annotated[
        float | None, typer.Option(min=-89.0, max=89.0, help="Of the views; the photo's own.")
    ] = None,
    photo_elevation_deg: PhotoElevation = "auto",
    size: Size = 256,
    distance: Distance = 1.5,
    fov_deg: FovDeg = 49.13,
    enhance: Annotated[
        Enhance, typer.Option(help="Draw the views anew with the photo's texture: HiFi-123's RGNV.")
    ] = Enhance.none,
    weights: Weights = None,
    prompt: Prompt = None,
    quality: QualityOption = Quality.standard,
    seed: Seed = 0,
    device: DeviceOption = Device.auto,
    memory_gb: MemoryGb = None,
    threads: Threads = None,
    mask: MaskFile = None,
    no_matte: NoMatte = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Draw novel views of the object in a photo, without making a mesh."""
    check_recipe(recipe)
    check_output(output)
    elevation = parse_elevation(photo_elevation_deg)
    azimuths = None if azimuth_deg is None else parse_numbers(azimuth_deg, "--azimuth-deg")
    use_threads(threads)
    image, painted = _read(photo, mask, no_matte)
    from ..export.sheet import save_sheet  # noqa: PLC0415  imports torch
    from ..export.transforms import save_views  # noqa: PLC0415
    from ..loaders import Wanted  # noqa: PLC0415
    from ..methods import method_of  # noqa: PLC0415
    from ..pipeline import adapted  # noqa: PLC0415
    from ..stages import Stages, seeded  # noqa: PLC0415

    method = method_of(recipe)
    wanted = Wanted(weights, painted, not no_matte, elevation, str(device), memory_gb, prompt)
    enhanced = None if enhance is Enhance.none else _enhancing(wanted, enhance)
    loaded = method.load(wanted)
    read = loaded.prompt is not None or (enhanced is not None and _is_told(wanted))
    check_prompt(prompt, recipe, read=read)
    settings = replace(
        method.settings(quality),
        photo_elevation_deg=elevation,
        size_px=size,
        distance=distance,
        fov_deg=fov_deg,
    )
    # A video model draws one ring, at its own size, and nothing else.
    settings = adapted(settings, loaded.asks)
    rng = seeded(seed)
    with told(quiet=quiet, as_json=as_json) as listener:
        stages = Stages(rng, listener=listener)
        drawn = method.views(
            image,
            loaded.models,
            rng,
            settings,
            stages,
            azimuth_deg=azimuths,
            elevation_deg=elevation_deg,
        )
        if enhanced is not None:
            matte = loaded.models.matte
            # What drew them makes room for what enhances them.
            del loaded
            drawn = enhanced(image, matte, drawn, settings.photo_px, stages)
        save_views(drawn, output)
        save_sheet(drawn, output / "sheet.png")
        listener.say(f"wrote {len(drawn)} views to {output}", output=str(output))


def _enhancing(wanted: "Wanted", enhance: Enhance) -> "Enhancing":
    """Plan the memory of what enhances views before any are drawn; load it only when they are."""
    from ..loaders.hifi123 import enhancer_room, load_enhancer  # noqa: PLC0415  imports diffusers
    from ..recipes.enhancing import ENHANCEMENTS, enhanced_views  # noqa: PLC0415
    from ..recipes.framing import framed_subject  # noqa: PLC0415

    like = "paper" if enhance is Enhance.rgnv else "released_code"
    room = enhancer_room(wanted)

    def enhanced(
        photo: "Image", matte: "Matte", drawn: "Views", photo_px: int, stages: "Stages"
    ) -> "Views":
        # Networks that take turns on a device hold themselves by their own entrances.
        gc.collect()
        subject = framed_subject(photo, matte, photo_px=photo_px)
        enhancer = load_enhancer(wanted, [], room)
        return enhanced_views(subject, drawn, enhancer, settings=ENHANCEMENTS[like], stage=stages)

    return enhanced


def _is_told(wanted: "Wanted") -> bool:
    """Whether what enhances views reads words."""
    from ..weights import named  # noqa: PLC0415

    given = [] if wanted.weights is None else named(wanted.weights)
    return any(card.kind == "sd2-depth" for card in given)


def _read(photo: Path, mask: Path | None, no_matte: bool) -> "tuple[Image, Tensor | None]":
    """Read the pictures before any model is loaded: a bad file is told at once."""
    if mask is not None and no_matte:
        raise ValueError("--mask and --no-matte exclude each other")
    from ..photo import load_image, load_mask  # noqa: PLC0415  imports torch

    image = load_image(photo)
    return image, None if mask is None else load_mask(mask, image.size_hw)


def _run(job: "Job", output: Path, resume: bool, listener: Silence) -> None:
    from ..pipeline import make_into  # noqa: PLC0415  imports torch

    kept = make_into(job, output, resume=resume, listener=listener)
    listener.say(f"{output} was finished before" if kept else f"wrote {output}", output=str(output))
