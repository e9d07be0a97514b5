"""The short-budget training script, dry-run on a CPU as it would run on a GPU."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from render_tiny import tiny_set

from roundview.data.procedural import procedural_object
from roundview.export.glb import glb_bytes
from roundview.train.checkpoints import load_checkpoint
from roundview.train.families import FAMILIES
from roundview.train.shards import join_shards
from roundview.weights import load_tensors, verify

TINY = ("--slots=8", "--workers=1", "--objects=1", "--protocol-px=32", "--batch=2", "--size=16")
BARRED = ("skimage", "imageio_ffmpeg", "onnxruntime", "fast_simplification", "xatlas", "typer")
"""What roundview depends on elsewhere and a bare training machine need not have."""


def run(repository: Path, family: str, place: Path, *more: str, minutes: str = "0.04") -> str:
    script = repository / "experiments" / "train_small.py"
    # The rendering processes run this file again, so it must not start training in them.
    code = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({BARRED!r}))
sys.argv = sys.argv[1:]
if __name__ == "__main__":
    runpy.run_path(sys.argv[0], run_name="__main__")
"""
    done = subprocess.run(
        [
            *(sys.executable, "-W", "ignore", "-c", code, str(script), family),
            *(f"--minutes={minutes}", "--measure-minutes=0", f"--work={place / 'work'}"),
            *(f"--out={place / 'out' / family}", *TINY, *more),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def kept(out: Path) -> dict[str, Any]:
    """Check what a run leaves, put its weights together, and give its numbers."""
    files = list(out.iterdir())
    assert len(files) <= 8
    assert all(path.stat().st_size <= 16_000_000 for path in files)
    card = join_shards(out, out / "whole")
    verify(card)
    assert load_tensors(card)
    assert card.facts["objects_rendered"] > 0
    return json.loads((out / "numbers.json").read_text())


def test_the_orbit_model_is_trained_in_pieces(repository: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b", "s"):  # The hash of "s" keeps it for measuring.
        (data / f"{name}.glb").write_bytes(glb_bytes(procedural_object(rng)))
    small = (f"--data={data}", "--width=64", "--blocks=1")
    run(repository, "orbit", tmp_path, *small)
    checkpoint = tmp_path / "work" / "orbit-16" / "checkpoint.pt"
    first = load_checkpoint(checkpoint)["step"]
    assert first > 0
    run(repository, "orbit", tmp_path, *small, "--finish")
    assert load_checkpoint(checkpoint)["step"] > first
    numbers = kept(tmp_path / "out" / "orbit")
    assert numbers["psnr_steps_1"] > 0
    assert (tmp_path / "out" / "orbit" / "sheet.png").is_file()


class Filled:
    """A ring of slots that is full from the start, in the place of rendering processes."""

    def __init__(self, directory: Path, *_: object, **__: object) -> None:
        self.live = tiny_set(directory, objects=1, size_px=64)
        self.version = np.full(1, 2)

    def __enter__(self) -> "Filled":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def filled(self) -> np.ndarray:
        return np.arange(1)

    def wait(self, slots: int | None = None) -> None:
        del slots

    def drawn(self) -> int:
        return 1


@pytest.mark.parametrize("card", [card for card in FAMILIES if card != "orbit-small"])
def test_every_other_family_runs_through(
    card: str, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = repository / "experiments" / "train_small.py"
    spec = importlib.util.spec_from_file_location("train_small", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ViewStream", Filled)
    family, size = card.removesuffix("-small"), 32 if card == "depth-small" else 64
    module.main(
        [
            *(family, "--minutes=2", "--measure-minutes=0", "--steps=1", "--batch=1"),
            *(f"--size={size}", f"--work={tmp_path / 'work'}", f"--out={tmp_path / 'out'}"),
            *("--slots=1", "--workers=1", "--objects=1"),
        ]
    )
    assert load_checkpoint(tmp_path / "work" / f"{family}-{size}" / "checkpoint.pt")["step"] == 1
    numbers = kept(tmp_path / "out")
    marks = {"autoencoder": "psnr", "elevation": "elevation_ring_deg", "depth": "normal_deg"}
    assert numbers["loss"] > 0
    assert family not in marks or numbers[marks[family]] > 0
