"""What a training run leaves to look at: losses, speed and sample sheets, on disk and TensorBoard.

`log.jsonl` holds one object a line. TensorBoard's files go to `tensorboard/` where that package is
installed; nothing else depends on it.
"""

import functools
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

_LOG = logging.getLogger(__name__)


class Journal:
    """Writes the lines and pictures of one run.

    Args:
        directory: Where `log.jsonl`, `sheets/` and `tensorboard/` go.
        after_step: The step that the run goes on from; lines of later steps, written before a kill
            and about to be written again, are dropped. 0 begins a new log.
    """

    def __init__(self, directory: Path, *, after_step: int = 0) -> None:
        self._directory = directory
        path = directory / "log.jsonl"
        kept = [line for line in read_log(directory) if line["step"] <= after_step]
        path.write_text("".join(json.dumps(line) + "\n" for line in kept if after_step))
        self._stream = path.open("a")
        self._board = _tensorboard(directory / "tensorboard", after_step)

    def line(self, step: int, values: dict[str, float]) -> None:
        """Write the values of one step."""
        self._stream.write(json.dumps({"step": step, **values}) + "\n")
        self._stream.flush()
        shown = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        _LOG.info("step %d  %s", step, shown)
        for name, value in values.items() if self._board else ():
            self._board.add_scalar(name, value, step)

    def sheet(self, step: int, picture: Float[Tensor, "h w 3"]) -> Path:
        """Write a sheet of samples, sRGB in [0, 1], to `sheets/STEP.png`."""
        from PIL import Image  # noqa: PLC0415  only where it is needed

        path = self._directory / "sheets" / f"{step:07d}.png"
        path.parent.mkdir(exist_ok=True)
        pixels = (picture.clamp(0, 1).cpu() * 255 + 0.5).to(torch.uint8).numpy()
        Image.fromarray(np.ascontiguousarray(pixels)).save(path)
        if self._board:
            self._board.add_image("samples", pixels, step, dataformats="HWC")
        return path

    def close(self) -> None:
        """Close the files."""
        self._stream.close()
        if self._board:
            self._board.close()


def picture_rows(
    drawn: Float[Tensor, "b v h w 3"], wanted: Float[Tensor, "b v h w 3"]
) -> Float[Tensor, "H W 3"]:
    """Lay pictures out for a sheet: for each b a row as drawn, and under it the row as wanted."""
    rows = torch.stack([drawn.float().cpu(), wanted.float().cpu()], dim=1)
    return rearrange(rows, "b two v h w c -> (b two h) (v w) c")


def read_log(directory: Path) -> list[dict[str, Any]]:
    """Give the lines of a run's log, oldest first; a line cut off by a kill is left out."""
    path = directory / "log.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    whole = [line for line in lines if line.startswith("{") and line.endswith("}")]
    return [json.loads(line) for line in whole]


def count_flops(work: Callable[[], None]) -> float:
    """Do some work and count the multiplications and additions of its products and convolutions."""
    counter = FlopCounterMode(display=False)
    with counter:
        work()
    return float(counter.get_total_flops())


@functools.lru_cache(maxsize=4)
def measured_peak(kind: str) -> float:
    """Time a large bfloat16 product (float32 on a CPU) and give its floating-point operations/s.

    What a training step can at best reach: a share of it says more than one of a data sheet's
    figure, which random numbers do not reach.
    """
    side, dtype = (8192, torch.bfloat16) if kind == "cuda" else (768, torch.float32)
    rng = torch.Generator(kind).manual_seed(0)
    square = torch.randn(side, side, generator=rng, device=kind, dtype=dtype)
    best = float("inf")
    for _ in range(4):
        began = time.perf_counter()
        product = square @ square
        float(product[0, 0])  # Waits for the device.
        best = min(best, time.perf_counter() - began)
    return 2 * side**3 / best


def _tensorboard(directory: Path, after_step: int) -> Any:  # noqa: ANN401  an optional package's class
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  optional
    except ImportError:
        return None
    return SummaryWriter(str(directory), purge_step=after_step + 1 if after_step else None)
