"""`roundview batch`: many photos, one asset each; what is done stays done."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
    TextureSize,
    Threads,
    Watertight,
    Weights,
    check_output,
    check_recipe,
    parse_elevation,
)
from .progress import Silence, told
from .sharing import Address, EngineName, EngineOption, start_of

if TYPE_CHECKING:
    from ..batch.making import Wish
    from ..batch.manifest import Entry, Manifest
    from ..batch.run import Summary
    from ..batch.tasks import Engine


def batch(  # noqa: PLR0913  typer reads the options from the signature
    photos: Annotated[str, typer.Argument(help="A folder, a quoted pattern, or a list of paths.")],
    output: Output,
    engine: EngineOption = EngineName.local,
    address: Address = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Photos at a time.")] = None,
    attempts: Annotated[int, typer.Option(min=1, help="Tries of a photo in one run.")] = 2,
    hours: Annotated[
        float | None, typer.Option(min=1e-3, help="Longest time of one photo (local engine).")
    ] = None,
    recipe: Recipe = "im3d",
    weights: Weights = None,
    quality: QualityOption = Quality.standard,
    seed: Seed = 0,
    device: DeviceOption = Device.auto,
    threads: Threads = None,
    no_matte: Annotated[
        bool, typer.Option("--no-matte", help="The whole picture is the object.")
    ] = False,
    photo_elevation_deg: PhotoElevation = "auto",
    texture_size: TextureSize = 1024,
    faces: Faces = 20_000,
    watertight: Watertight = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Turn every photo of a folder, a pattern or a list into an asset in a folder of its own."""
    check_recipe(recipe)
    check_output(output)
    start = start_of(engine, address, device)
    if start is not None and weights is not None and Path(weights).exists():
        weights = str(Path(weights).resolve())  # Workers elsewhere stand in other folders.
    changes: dict[str, Any] = {
        "photo_elevation_deg": parse_elevation(photo_elevation_deg),
        "texture_size": texture_size,
        "faces": faces,
        "watertight": watertight,
    }
    from ..batch.making import Wish  # noqa: PLC0415  imports torch
    from ..batch.manifest import Manifest  # noqa: PLC0415
    from ..batch.photos import find_photos, tasks_for  # noqa: PLC0415
    from ..batch.run import run_batch  # noqa: PLC0415
    from ..batch.tasks import BuildError  # noqa: PLC0415
    from ..weights import WeightsMissing  # noqa: PLC0415

    wish = Wish(recipe, str(quality), seed, weights, str(device), not no_matte, changes)
    tasks = tasks_for(find_photos(photos), output)
    manifest = Manifest(output, wish.identity())

    def started() -> "Engine":
        if start is not None:
            return start(wish, count=jobs, threads=threads or 2)
        return _local(wish, jobs, threads, hours)

    with told(quiet=quiet, as_json=as_json) as listener:
        listener.began("photos")

        def heard(entry: "Entry", left: int) -> None:
            listener.progressed("photos", 1 - left / len(tasks))
            _say(listener, entry, left)

        try:
            summary = run_batch(tasks, manifest, started, attempts=attempts, heard=heard)
        except BuildError as error:
            raise (WeightsMissing if error.missing else ValueError)(str(error)) from error
        listener.finished("photos", sum(e.seconds for e in summary.entries), resumed=False)
        _summed_up(listener, summary, manifest)


def _local(wish: "Wish", jobs: int | None, threads: int | None, hours: float | None) -> "Engine":
    from ..batch.local import LocalEngine, free_cores  # noqa: PLC0415  imports torch

    # Two cores each, chosen by us: what one photo was timed with (docs/scale.md).
    count = jobs or max(1, free_cores() // (threads or 2))
    limit = None if hours is None else 3600 * hours
    return LocalEngine(wish, count=count, threads=threads, limit_seconds=limit)


def _say(listener: Silence, entry: "Entry", left: int) -> None:
    ended = f"failed: {entry.reason}" if entry.reason else f"done in {entry.seconds:.1f} s"
    listener.say(
        f"{entry.photo}: {ended} ({left} left)",
        photo=entry.photo,
        folder=entry.folder,
        state=entry.state,
        reason=entry.reason,
        seconds=entry.seconds,
        tries=entry.tries,
        left=left,
    )


def _summed_up(listener: Silence, summary: "Summary", manifest: "Manifest") -> None:
    """Tell what became of the photos; refuse to call it done when some failed."""
    failed = summary.failed
    done = len(summary.entries) - len(failed)
    seconds = sum(entry.seconds for entry in summary.entries)
    lines = [
        f"done     {done} (of these before: {summary.skipped})",
        f"failed   {len(failed)}",
        f"seconds  {seconds:.1f} of work",
    ]
    lines += [f"  {entry.photo}: {entry.reason}" for entry in failed]
    facts = {"done": done, "failed": len(failed), "before": summary.skipped, "seconds": seconds}
    listener.say("\n".join(lines), **facts)
    if failed:
        raise ValueError(
            f"{len(failed)} of {len(summary.entries)} photos failed; {manifest.path} says why, and "
            "the same command tries them again"
        )
