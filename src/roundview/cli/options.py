"""Options that several commands share, and what they mean."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..recipes import RECIPES


class Quality(StrEnum):
    """Time for detail."""

    draft = "draft"
    standard = "standard"
    high = "high"


class Device(StrEnum):
    """Where networks run."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


PROMPTED = ("sd1", "sd2", "sd2-v", "sd2-depth", "imagedream", "mvdream")
"""Kinds of imported checkpoints that read prompts."""
Output = Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")]
QualityOption = Annotated[Quality, typer.Option(help="Time for detail.")]
Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes on a CPU.")]
DeviceOption = Annotated[Device, typer.Option(help="Where the networks run.")]
MemoryGb = Annotated[
    float | None,
    typer.Option(min=0.1, help="What imported checkpoints may take of the device's memory."),
]
Prompt = Annotated[
    str | None,
    typer.Option(help='What the photo shows, like "a red chair", for models that read words.'),
]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; all that are free.")]
Weights = Annotated[
    str | None, typer.Option(help="A card's name, a card's file or a folder of cards.")
]
TextureSize = Annotated[int, typer.Option(min=64, max=8192, help="Side of the texture, pixels.")]
Faces = Annotated[int, typer.Option(min=16, help="Triangles at most.")]
Watertight = Annotated[
    bool, typer.Option("--watertight", help="Close the mesh into one printable shell.")
]
Size = Annotated[int, typer.Option(min=8, max=4096, help="Side of the pictures, pixels.")]
Distance = Annotated[float, typer.Option(min=1e-3, help="Of the cameras from the centre.")]
FovDeg = Annotated[float, typer.Option(min=1.0, max=170.0, help="Vertical field of view.")]
AzimuthDeg = Annotated[
    str | None, typer.Option(help="Comma-separated; 0 is the photo's side, growing towards +X.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Say nothing.")]
Json = Annotated[bool, typer.Option("--json", help="Say it as JSON, one object a line.")]
PhotoElevation = Annotated[
    str, typer.Option(help="Elevation the photo was taken from, degrees, or auto.")
]

Recipe = Annotated[str, typer.Option(help=f"The method: {', '.join(RECIPES)}.", metavar="NAME")]


def check_recipe(recipe: str) -> None:
    """Refuse recipes that there are not."""
    if recipe not in RECIPES:
        raise ValueError(f"--recipe {recipe!r} is unknown; there are: {', '.join(RECIPES)}")


FITS = ("splat", "sdf", "radiance", "discs")


def check_fit(fit: str) -> None:
    """Refuse reconstructions that there are not."""
    if fit not in FITS:
        raise ValueError(f"--fit {fit!r} is unknown; there are: {', '.join(FITS)}")


def check_cpu_only(device: Device, command: str) -> None:
    """Refuse a GPU for what has CPU kernels only."""
    if device not in (Device.auto, Device.cpu):
        raise ValueError(
            f"--device {device}: `roundview {command}` runs on the CPU in this version"
        )


def check_output(output: Path) -> None:
    """Refuse to write a folder over a file."""
    if output.exists() and not output.is_dir():
        raise ValueError(f"-o {output} is a file; name a folder")


def parse_numbers(text: str, option: str) -> list[float]:
    """Read a comma-separated list of finite numbers."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(f"{option} {text!r} is no comma-separated list of numbers") from error
    if not all(abs(number) < 1e6 for number in numbers):
        raise ValueError(f"{option} {text!r} holds a number that is no angle")
    return numbers


def parse_elevation(text: str) -> float | None:
    """Read `auto` or degrees."""
    if text == "auto":
        return None
    (degrees, *more) = parse_numbers(text, "--photo-elevation-deg")
    if more or not -80 <= degrees <= 80:
        raise ValueError(f"--photo-elevation-deg {text!r}: give auto, or one number in -80..80")
    return degrees


def use_threads(threads: int | None) -> None:
    """Run networks and kernels on so many threads."""
    if threads is None:
        return
    os.environ["ROUNDVIEW_THREADS"] = str(threads)  # Read by the kernels at every call.
    import torch  # noqa: PLC0415

    torch.set_num_threads(threads)


def check_prompt(prompt: str | None, recipe: str, *, read: bool) -> None:
    """Refuse words that nobody reads.

    Raises:
        ValueError: If there is a prompt, and none of the models in use reads one.
    """
    if prompt is not None and not read:
        raise ValueError(
            f"--prompt: no model of {recipe} reads words with these weights; those of kind "
            f"{', '.join(PROMPTED)} do (`roundview weights list --public`)"
        )
