"""How a run tells what it is doing: bars for people, JSON lines for programs, or nothing."""

import json
import sys


class Silence:
    """A `stages.Listener` that says nothing."""

    def __enter__(self) -> "Silence":
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """End."""

    def began(self, stage: str) -> None:
        """Hear that a stage began."""

    def progressed(self, stage: str, fraction: float) -> None:
        """Hear how much of it is done."""

    def finished(self, stage: str, seconds: float, *, resumed: bool) -> None:
        """Hear that it ended."""

    def say(self, message: str, **facts: object) -> None:
        """Hear something else that a user should know."""


class JsonLines(Silence):
    """Writes one JSON object a line to stdout."""

    def began(self, stage: str) -> None:
        """Write that a stage began."""
        self._write(event="began", stage=stage)

    def progressed(self, stage: str, fraction: float) -> None:
        """Write how much of it is done."""
        self._write(event="progress", stage=stage, fraction=round(fraction, 4))

    def finished(self, stage: str, seconds: float, *, resumed: bool) -> None:
        """Write that it ended."""
        self._write(event="finished", stage=stage, seconds=round(seconds, 3), resumed=resumed)

    def say(self, message: str, **facts: object) -> None:
        """Write the facts, which programs read instead of the message."""
        self._write(event="message", message=message, **facts)

    def _write(self, **facts: object) -> None:
        print(json.dumps(facts), flush=True)


class Bars(Silence):
    """Draws one bar a stage on stderr, which stays with its seconds when the stage is done."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415  only people need it
        from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415

        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
        )
        self._task = None

    def __enter__(self) -> "Bars":
        """Begin to draw."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the bars as they are."""
        self._progress.stop()

    def began(self, stage: str) -> None:
        """Add a bar."""
        self._task = self._progress.add_task(stage, total=1.0, note="")

    def progressed(self, stage: str, fraction: float) -> None:
        """Move it."""
        del stage
        if self._task is not None:
            self._progress.update(self._task, completed=fraction)

    def finished(self, stage: str, seconds: float, *, resumed: bool) -> None:
        """Fill it."""
        del stage
        if self._task is not None:
            note = "kept" if resumed else f"{seconds:.1f} s"
            self._progress.update(self._task, completed=1.0, note=note)

    def say(self, message: str, **facts: object) -> None:
        """Print above the bars."""
        del facts
        self._console.print(message, highlight=False, markup=False, soft_wrap=True)


class Lines(Silence):
    """Prints one line a finished stage to stderr, for logs and pipes."""

    def finished(self, stage: str, seconds: float, *, resumed: bool) -> None:
        """Print the line."""
        print(f"{stage}: {'kept' if resumed else f'{seconds:.1f} s'}", file=sys.stderr, flush=True)

    def say(self, message: str, **facts: object) -> None:
        """Print it."""
        del facts
        print(message, file=sys.stderr, flush=True)


def told(*, quiet: bool, as_json: bool) -> Silence:
    """Choose how to tell."""
    if as_json:
        return JsonLines()
    if quiet:
        return Silence()
    return Bars() if sys.stderr.isatty() else Lines()
