"""Files that hold an original module's weights, inputs and outputs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SINGLE, SAMPLED = 1e-4, 1e-3
"""Largest errors that pass: of one forward, and of a sampler's result."""


@dataclass(frozen=True, eq=False)
class Fixture:
    """What an original module was given and what it gave.

    Attributes:
        weights: In the original key layout.
        fields: Inputs and outputs by name.
        facts: The files' metadata; `config` holds the keyword arguments of the original class.
    """

    weights: Mapping[str, Tensor]
    fields: Mapping[str, Tensor]
    facts: Mapping[str, str]

    @property
    def config(self) -> dict[str, Any]:
        """The keyword arguments of the original class.

        Raises:
            ValueError: If the metadata hold none.
        """
        for name in ("config", "unet_config", "open_clip_cfg", "ddconfig"):
            if name in self.facts:
                return _as_dict(name, self.facts[name])
        raise ValueError("neither file's metadata hold the original's configuration ('config')")

    def sub_config(self, key: str) -> dict[str, Any] | None:
        """Find the configuration that has some key: of a part, like a resampler."""
        for name, text in self.facts.items():
            if text.startswith("{"):
                found = _with_key(_as_dict(name, text), key)
                if found is not None:
                    return found
        return None

    def has(self, *names: str) -> bool:
        """Tell whether all these fields are there."""
        return all(name in self.fields for name in names)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What we gave for one output field.

    Attributes:
        ours: Our result.
        tolerance: Largest absolute error that passes.
    """

    ours: Tensor
    tolerance: float = SINGLE


def read_fixture(weights: Path, io: Path) -> Fixture:
    """Read a fixture; numbers of half precision become float32, which is exact.

    Where one file holds everything, the weights' names begin with `sd.`, the inputs' with `in.` and
    the outputs' with `out.`.

    Raises:
        ValueError: If a file cannot be read as safetensors.
    """
    inside, facts = _read(io)
    tensors, told = _read(weights)
    facts |= told
    if any(name.startswith("sd.") for name in tensors):
        everything = {**inside, **tensors}
        tensors = _under(everything, "sd.")
        inside = _under(everything, "in.") | _under(everything, "out.")
    return Fixture(tensors, inside, facts)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415  only what a command needs

    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no dict
            told = dict(file.metadata() or {})
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file: {error}") from error
    half = (torch.float16, torch.bfloat16)
    return {n: t.float() if t.dtype in half else t for n, t in tensors.items()}, told


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _as_dict(name: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError(f"the metadata's {name!r} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"the metadata's {name!r} is no JSON object")
    return value


def _with_key(value: dict[str, Any], key: str) -> dict[str, Any] | None:
    if key in value:
        return value
    parts = (part for part in value.values() if isinstance(part, dict))
    return next((found for part in parts if (found := _with_key(part, key))), None)
