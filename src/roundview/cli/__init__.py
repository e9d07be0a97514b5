"""The command line: parse, call, print. Nothing heavy is imported before a command runs."""

import os
import shlex
import signal
import sys
import traceback

import typer

from .assets import fit, inspect, render
from .batching import batch
from .evaluating import evaluate
from .exporting import export
from .making import make, views
from .serving import serve
from .training import render_set, train, warmup
from .weighing import weights

DONE, BAD_INPUT, WEIGHTS_MISSING, INTERRUPTED, BUG = 0, 2, 3, 130, 1

app = typer.Typer(
    name="roundview",
    help="One photograph in; a textured mesh, Gaussian splats and a turntable out.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for command in (make, views, fit, render, inspect, export, batch, serve, render_set, train, warmup):
    app.command()(command)
app.add_typer(weights, name="weights")
app.add_typer(evaluate, name="eval")


@app.callback()
def options(
    version: bool = typer.Option(False, "--version", help="Print the version and stop."),
    debug: bool = typer.Option(False, "--debug", help="Show tracebacks; may stand anywhere."),
) -> None:
    """One photograph in; a textured mesh, Gaussian splats and a turntable out."""


def main() -> None:
    """Run the command line; the entry point of the `roundview` script."""
    _settle(debug="--debug" in sys.argv)
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and give its exit code; every failure is one line on stderr."""
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    if arguments == ["--version"]:
        from .. import __version__  # noqa: PLC0415

        print(f"roundview {__version__}")
        return DONE
    try:
        code = app(arguments, prog_name="roundview", standalone_mode=False)
        if code == INTERRUPTED:  # What newer versions of typer turn Ctrl-C into.
            raise KeyboardInterrupt
        return code if isinstance(code, int) else DONE
    except (KeyboardInterrupt, typer.Abort):
        return _said(INTERRUPTED, _interrupted(arguments))
    except BrokenPipeError:
        # The reader went away, as in `roundview ... | head`; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:  # The last line of defence: everything becomes an exit code.
        if debug:
            traceback.print_exc()
        return _failed(error)


def _settle(*, debug: bool) -> None:
    """Set what belongs to the process, not to a command: warnings, logs, signals."""
    import logging  # noqa: PLC0415
    import warnings  # noqa: PLC0415

    if not debug:
        warnings.simplefilter("ignore")  # Of libraries; ours are log records.
    logging.basicConfig(format="roundview: %(message)s", level=logging.WARNING)
    if hasattr(signal, "SIGTERM"):
        # A stopped container is an interruption like any other: its stages are saved.
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def _failed(error: Exception) -> int:
    kind = type(error).__name__
    if kind == "NoArgsIsHelpError":
        print(error)
        return BAD_INPUT
    # The parser's errors; their class has moved between versions of typer.
    wording = getattr(error, "format_message", None)
    if wording is not None:
        context = getattr(error, "ctx", None)
        asked = context.command_path if context else "roundview"
        return _said(BAD_INPUT, f"{wording()} (see `{asked} --help`)")
    if kind == "WeightsMissing":  # By name: importing it would cost every start.
        return _said(WEIGHTS_MISSING, str(error))
    if isinstance(error, OSError):
        where = f": {error.filename}" if error.filename else ""
        return _said(BAD_INPUT, f"{error.strerror or error}{where}")
    if isinstance(error, ValueError):
        return _said(BAD_INPUT, str(error))
    what = f"{kind}: {error}"
    return _said(BUG, f"this is a bug: {what} (run again with --debug to see where)")


def _interrupted(arguments: list[str]) -> str:
    if arguments[:1] in (["make"], ["train"]):
        again = arguments if "--resume" in arguments else [*arguments, "--resume"]
        return f"interrupted; go on with: {shlex.join(['roundview', *again])}"
    if arguments[:1] in (
        ["eval"],
        ["render-set"],
        ["batch"],
    ):  # It keeps what is measured without being told to.
        return f"interrupted; go on with: {shlex.join(['roundview', *arguments])}"
    return "interrupted; nothing was left half-written"


def _said(code: int, message: str) -> int:
    print("roundview: " + " ".join(message.split()), file=sys.stderr)
    return code
