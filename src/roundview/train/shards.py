"""Weights in files of limited size, in half precision: for ways that take small files only."""

import json
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..weights import Card, card, save_weights

FILE_BYTES = 16_000_000
"""Most bytes of one file."""
RUN_BYTES = 60_000_000
"""Most bytes of all files of one run."""


def save_shards(
    tensors: dict[str, Tensor], about: Card, *, file_bytes: int = FILE_BYTES
) -> list[Path]:
    """Write weights as float16 into as few files as hold them, and their card, to its folder.

    Tensors larger than a file are cut along their first axis. `join_shards` puts all together.

    Raises:
        ValueError: If they take more than `RUN_BYTES`.
    """
    half = {name: _half(value) for name, value in tensors.items()}
    total = sum(value.numel() * value.element_size() for value in half.values())
    if total > RUN_BYTES:
        raise ValueError(
            f"{about.name} takes {total / 1e6:.1f} MB in half precision, more than "
            f"{RUN_BYTES / 1e6:.0f}: train a smaller network"
        )
    parts: list[dict[str, Tensor]] = [{}]
    room = file_bytes - _HEADER_BYTES
    for name, value in half.items():
        for at, piece in enumerate(_cut(value, file_bytes - _HEADER_BYTES)):
            size = piece.numel() * piece.element_size()
            if size > room and parts[-1]:
                parts.append({})
                room = file_bytes - _HEADER_BYTES
            parts[-1][f"{name}|{at}"] = piece
            room -= size
    about.folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, part in enumerate(parts, 1):
        path = about.folder / f"{about.name}-{number}-of-{len(parts)}.safetensors"
        save_file(part, path)
        paths.append(path)
    stated = replace(about, file=paths[0].name).to_json() | {"shards": [p.name for p in paths]}
    (about.folder / f"{about.name}.shards.json").write_text(json.dumps(stated, indent=2))
    return paths


def join_shards(folder: Path, into: Path) -> Card:
    """Put the shards of a folder together: one weight file with its card in `into`.

    Raises:
        ValueError: If the folder holds no shards, or not all of them.
    """
    lists = sorted(folder.glob("*.shards.json"))
    if not lists:
        raise ValueError(f"{folder} holds no .shards.json")
    stated = json.loads(lists[0].read_text())
    names = stated.pop("shards")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"{folder} lacks {', '.join(missing)}")
    pieces: dict[str, dict[int, Tensor]] = {}
    for name in names:
        for key, value in load_file(folder / name).items():
            tensor, _, at = key.rpartition("|")
            pieces.setdefault(tensor, {})[int(at)] = value
    tensors = {
        name: torch.cat([part[i] for i in sorted(part)]) if len(part) > 1 else part[0]
        for name, part in pieces.items()
    }
    into.mkdir(parents=True, exist_ok=True)
    stated["file"] = f"{stated['name']}.safetensors"
    path = into / f"{stated['name']}.json"
    path.write_text(json.dumps(stated))
    return save_weights(tensors, card(stated["name"], folder=into))


_HEADER_BYTES = 100_000
"""Room for the names in a file."""


def _half(value: Tensor) -> Tensor:
    value = value.detach().cpu().contiguous()
    return value.half() if value.is_floating_point() else value


def _cut(value: Tensor, most_bytes: int) -> list[Tensor]:
    size = value.numel() * value.element_size()
    if size <= most_bytes or value.ndim == 0:
        return [value]
    count = -(-size // most_bytes)
    return [piece.contiguous() for piece in value.tensor_split(min(count, len(value)))]
