"""`roundview train` and `roundview warmup`."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Device, DeviceOption, Json, Output, Quiet, Threads, check_output, use_threads
from .progress import told


def warmup(threads: Threads = None, quiet: Quiet = False) -> None:
    """Compile the CPU kernels once, so that the first asset need not wait for them."""
    use_threads(threads)
    from ..warming import compile_kernels  # noqa: PLC0415  imports torch

    with told(quiet=quiet, as_json=False) as listener:
        seconds = compile_kernels(listener)
        listener.say(f"kernels are compiled ({seconds:.1f} s)")
