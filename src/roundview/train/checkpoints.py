"""Checkpoints of a training run: written whole or not at all, read without running code in them."""

import os
from pathlib import Path
from typing import Any

import torch

FORMAT = 2
"""Version of what a checkpoint holds; raised when an older one can no longer be gone on from."""


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write a state so that a kill, or a power cut, at any time leaves a whole file.

    It is written under another name, brought to the disk, and renamed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as stream:
        torch.save({"format": FORMAT, **state}, stream)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a state back, onto the CPU.

    Raises:
        ValueError: If the file was written by a version of roundview that kept something else, is
            damaged, or holds more than tensors and plain values.
    """
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except FileNotFoundError:
        raise
    except Exception as error:  # torch raises a dozen kinds, some of them bare and of many lines.
        reason = " ".join(str(error).split())[:160]
        raise ValueError(f"{path} is no whole checkpoint: {reason}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(
            f"{path} is no checkpoint of this version: train without --resume, or in another folder"
        )
    return state
