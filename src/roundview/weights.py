"""Weights and the cards that say what they are. Offline first; safetensors and ONNX only.

A card is a JSON file beside its weights: name, kind, file, sha256, licence, source, whether
commercial use is allowed, what it was trained on, the settings to build the network with, and any
further facts. Nothing here unpickles, so a weight file cannot run code.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

SHIPPED = Path(__file__).parent / "shipped"
"""The folder of weights that come with the package."""

DEFAULTS = {
    "matte": "u2netp",
    "features": "efficientnet-lite0",
    "orbit": "orbit-small",
    "autoencoder": "autoencoder-small",
    "elevation": "elevation-small",
    "depth": "depth-small",
    "shape": "shape-small",
    "refiner_views": "cascade-small",
    "video_refiner": "video-refiner-small",
    "multiview": "multiview-small",
    "depth_image": "depth-image-small",
}
"""The shipped weights of each kind."""

VIDEO_KINDS = ("svd", "sv3d", "hi3d")
"""Kinds of imported checkpoints that can draw an orbit."""

_TRAINABLE = tuple(kind for kind in DEFAULTS if kind not in ("matte", "features"))
_LONGEST_NAME = 255  # bytes that a file's name may have on every file system
_REQUIRED = ("name", "kind", "file", "sha256", "licence", "source")


class WeightsMissing(RuntimeError):  # noqa: N818  a state of the installation, caught by name
    """Weights that are not there, or not what their card says; the message says how to get them."""


@dataclass(frozen=True)
class Card:
    """What a weight file is, where it came from, and what may be done with it.

    Attributes:
        name: Short name, unique in its folder.
        kind: What it is for: one of the keys of `DEFAULTS`.
        file: File name of the weights, in the card's folder.
        sha256: Hash of the file.
        licence: SPDX name of the licence.
        source: Where the weights come from.
        commercial_use: Whether the licence allows commercial use.
        trained_on: The data, with their licences.
        settings: Plain values to build the network with.
        facts: Anything else that the card states: steps, hours, measured quality.
        folder: Where the card was read.
    """

    name: str
    kind: str
    file: str
    sha256: str
    licence: str
    source: str
    commercial_use: bool = False
    trained_on: str = "not stated"
    settings: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    folder: Path = SHIPPED

    @property
    def path(self) -> Path:
        """The weight file."""
        return self.folder / self.file

    def to_json(self) -> dict[str, Any]:
        """Give what the card's file holds: every field but the folder, facts beside the rest."""
        stated = asdict(self)
        del stated["folder"]
        return stated | stated.pop("facts")


def list_cards(folder: Path | None = None) -> list[Card]:
    """Read the cards of a folder, the shipped ones by default, in the order of their names.

    Raises:
        ValueError: If a card lacks a field or is no JSON.
    """
    return [_read(path) for path in sorted((folder or SHIPPED).glob("*.json"))]


def card(name: str, *, folder: Path | None = None) -> Card:
    """Find a card by its name, among the shipped ones by default.

    Raises:
        ValueError: If there is none of that name.
    """
    cards = list_cards(folder)
    for found in cards:
        if found.name == name:
            return found
    have = ", ".join(c.name for c in cards) or "none"
    if name in DEFAULTS.values():
        kind = next(kind for kind, shipped in DEFAULTS.items() if shipped == name)
        raise WeightsMissing(f"{name} is not installed: {_how_to_get(kind, name)}")
    raise ValueError(f"no weights are called {name!r}; there are: {have}")


def find(kind: str, where: str | None = None) -> Card:
    """Choose the weights of one kind.

    Args:
        kind: One of the keys of `DEFAULTS`.
        where: A shipped card's name, a card's file, or a folder with cards; weights that it does
            not hold are the shipped ones.

    Raises:
        ValueError: If `where` names nothing, or a folder without any card.
    """
    for given in [] if where is None else named(where):
        if given.kind == kind:
            return given
    return card(DEFAULTS[kind])


def named(where: str) -> list[Card]:
    """Give the cards that a user named: by name, by file, or by folder.

    Raises:
        ValueError: If it names nothing, or a folder without any card.
    """
    path = Path(where)
    if path.is_dir():
        cards = list_cards(path)
        if not cards:
            raise ValueError(f"{where} holds no weight card (a .json file beside the weights)")
        return cards
    if path.suffix == ".json" and path.is_file():
        return [_read(path)]
    return [card(where)]


def verify(weights: Card) -> None:
    """Check a weight file against its card.

    Raises:
        WeightsMissing: If the file is not there or differs.
    """
    remedy = _how_to_get(weights.kind, weights.name)
    if not weights.path.is_file():
        raise WeightsMissing(f"{weights.path} is missing: {remedy}")
    if digest_of(weights.path) != weights.sha256:
        raise WeightsMissing(f"{weights.path} is damaged (its hash is not the card's): {remedy}")


def load_tensors(weights: Card | str) -> "dict[str, Tensor]":
    """Read the tensors of a verified safetensors file.

    Raises:
        WeightsMissing: If the file is missing or differs from its card.
        ValueError: If it is no safetensors file.
    """
    from safetensors import SafetensorError  # noqa: PLC0415  imports torch
    from safetensors.torch import load_file  # noqa: PLC0415

    found = card(weights) if isinstance(weights, str) else weights
    verify(found)
    try:
        return load_file(found.path)
    except SafetensorError as error:
        raise ValueError(f"{found.path} is no safetensors file: {error}") from error


def save_weights(tensors: "dict[str, Tensor]", weights: Card) -> Card:
    """Write tensors and their card into the card's folder; give the card with the file's hash.

    The card is written last, so that a card always has its weights.
    """
    from safetensors.torch import save  # noqa: PLC0415  imports torch

    from .export.files import write_bytes, write_json  # noqa: PLC0415

    data = save({key: value.detach().cpu().contiguous() for key, value in tensors.items()})
    facts = {**weights.facts, "bytes": len(data)}
    sealed = replace(weights, sha256=hashlib.sha256(data).hexdigest(), facts=facts)
    write_bytes(sealed.path, data)
    write_json(sealed.folder / f"{sealed.name}.json", sealed.to_json())
    return sealed


def save_card(weights: Card) -> Card:
    """Write a card beside its weights again, after its facts have changed."""
    from .export.files import write_json  # noqa: PLC0415  only where it is needed

    write_json(weights.folder / f"{weights.name}.json", weights.to_json())
    return weights


def for_record(weights: Card) -> dict[str, Any]:
    """Give what `record.json` states of the weights an asset was made with."""
    keys = ("name", "kind", "file", "sha256", "licence", "source", "commercial_use")
    return {key: getattr(weights, key) for key in keys}


def _read(path: Path) -> Card:
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no weight card: {error}") from error
    lacking = [key for key in _REQUIRED if not isinstance(stated, dict) or key not in stated]
    if lacking:
        raise ValueError(f"{path} is no weight card: it lacks {', '.join(lacking)}")
    texts = (*_REQUIRED, "trained_on")
    wrong = [key for key in texts if not isinstance(stated.get(key, ""), str)]
    wrong += [] if isinstance(stated.get("settings", {}), dict) else ["settings"]
    if wrong:
        raise ValueError(f"{path} is no weight card: it has no sense in {', '.join(wrong)}")
    # A card names a file of its own folder; anything else could point out of it.
    if Path(stated["file"]).name != stated["file"] or len(stated["file"].encode()) > _LONGEST_NAME:
        raise ValueError(f"{path}: file must be a plain file name, got {stated['file'][:80]!r}")
    fields = Card.__dataclass_fields__.keys() - {"facts", "folder"}
    known = {key: stated.pop(key) for key in list(stated) if key in fields}
    return Card(**known, facts=stated, folder=path.parent)


def digest_of(path: Path) -> str:
    """Give the SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _how_to_get(kind: str, name: str) -> str:
    if kind in _TRAINABLE:
        return f"run `roundview train {name} -o DIR`, then pass `--weights DIR`"
    return "reinstall the package with `pip install --force-reinstall roundview`"
