"""Turn checkpoints of others into safetensors with a card: `roundview weights import`.

Pickles run code when they are read carelessly. Here they go through torch's reader for weights
only, which builds tensors and plain containers and nothing else; what a trainer left beside them
(classes of Lightning) becomes an inert husk. Anything else in a pickle is refused by its name.
"""

import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .diffusion.checkpoints.families import family, read_networks
from .export.files import write_bytes
from .loaders.folders import read_folder, stated_in
from .weights import Card, WeightsMissing, save_weights

PICKLES = (".ckpt", ".pt", ".pth", ".bin")
_HUSKS = ("pytorch_lightning.", "lightning.", "omegaconf.")
_MODEL = "model."


def import_checkpoint(
    path: Path, kind: str, output: Path, *, half: bool = True, name: str | None = None
) -> Card:
    """Read a checkpoint in a layout of others, check it, and write it as safetensors with a card.

    Args:
        path: A `.safetensors` file or a pickle (`.ckpt`, `.pt`, `.pth`, `.bin`) in the original's
            layout, or a folder of diffusers.
        kind: One of `FAMILIES`.
        output: Folder of the new file and its card.
        half: Store float16, as the originals are run.
        name: Of the card; the file's own by default.

    Returns:
        The card that was written.

    Raises:
        ValueError: If the file is damaged, unsafe, or no checkpoint of this kind.
        WeightsMissing: If the kind needs a library that is not installed.
    """
    family(kind)
    try:
        if path.is_dir():
            networks, sizes = read_folder(path, kind, read_checkpoint)
        else:
            networks, sizes = read_networks(kind, read_checkpoint(path))
    except ImportError as error:  # A kind may need what the package does without.
        raise WeightsMissing(str(error)) from error
    tensors = {
        f"{part}.{tensor}": _stored(value, half=half)
        for part, network in networks.items()
        for tensor, value in network.state_dict().items()
    }
    stated = stated_in(path) if path.is_dir() else {}
    name = name or (path.resolve().name if path.is_dir() else path.stem)
    card = Card(
        name=name,
        kind=kind,
        file=f"{name}.safetensors",
        sha256="",
        licence="not stated; see where the checkpoint comes from",
        source=f"imported from {path.name}",
        settings={**sizes, **stated},
        facts={"parameters": sum(tensor.numel() for tensor in tensors.values())},
        folder=output,
    )
    output.mkdir(parents=True, exist_ok=True)
    merges = path / "tokenizer" / "merges.txt"
    if "text_tower" in networks and merges.is_file():
        write_bytes(merges_of(card), merges.read_bytes())
    return save_weights(tensors, card)


def merges_of(card: Card) -> Path:
    """Say where the merges of letters lie that a checkpoint's prompts are cut by: beside it."""
    return card.folder / f"{card.name}.merges.txt"


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint: exponential means of the weights where it holds them.

    Raises:
        ValueError: If the file is missing, damaged, unsafe, or holds no tensors.
    """
    if not path.is_file():
        raise ValueError(f"{path} is no file")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix not in PICKLES:
        known = ", ".join((".safetensors", *PICKLES))
        raise ValueError(f"{path} is none of the kinds that can be imported: {known}")
    return with_means(unwrapped(_read_pickle(path)))


def unwrapped(held: object) -> dict[str, Tensor]:
    """Find the tensors in what a trainer saved: Lightning's, DeepSpeed's, or a plain table.

    Raises:
        ValueError: If there are none.
    """
    found = held
    for key in ("state_dict", "module", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    table = found if isinstance(found, Mapping) else {}
    tensors = {str(n): t for n, t in table.items() if isinstance(t, Tensor)}
    if not tensors:
        raise ValueError("the checkpoint holds no table of tensors")
    # DeepSpeed wraps the model once more, in names.
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): t for name, t in tensors.items()}
    return tensors


def with_means(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put the exponential means of weights (`model_ema.*`, names without dots) in their place."""
    if not any(name.startswith("model_ema.") for name in state):
        return dict(state)
    means = {
        n.removeprefix("model_ema."): t for n, t in state.items() if n.startswith("model_ema.")
    }
    plain = {name: t for name, t in state.items() if not name.startswith("model_ema.")}
    for name in plain:
        mean = means.get(name.removeprefix(_MODEL).replace(".", ""))
        if name.startswith(_MODEL) and mean is not None:
            plain[name] = mean
    return plain


class Husk:
    """Stands for an object that a trainer left in a pickle; keeps nothing, does nothing."""

    def __setstate__(self, state: object) -> None:
        """Forget the state."""
        del state


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError  # noqa: PLC0415  only what a command needs
    from safetensors.torch import load_file  # noqa: PLC0415

    try:
        return load_file(path)
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{path} is no whole safetensors file: {error}") from error


def _read_pickle(path: Path) -> Any:  # noqa: ANN401  whatever was saved
    _must_not_swell(path)
    zipped = zipfile.is_zipfile(path)  # The older kind can neither be searched nor read in place.
    try:
        asked = torch.serialization.get_unsafe_globals_in_checkpoint(str(path)) if zipped else []
        husks: list[Any] = [(Husk, name) for name in asked if name.startswith(_HUSKS)]
        with torch.serialization.safe_globals(husks), warnings.catch_warnings():
            # Of the pickle's protocol; what is wrong with it is said below, in one line.
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # torch raises a dozen kinds, some of them bare.
        reason = " ".join(str(error).split())
        for sign in ("GLOBAL ", "Unsupported global: "):
            if sign in reason:
                culprit = reason.split(sign, 1)[1].split(" ", 1)[0].strip(":`'\"")
                raise ValueError(
                    f"{path} is refused: its pickle asks for {culprit}, which is no tensor"
                ) from error
        raise ValueError(f"{path} is no whole checkpoint: {reason[:160]}") from error


def _must_not_swell(path: Path) -> None:
    """Refuse archives that unpack to more than they are: torch stores without compression."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        swollen = [entry for entry in archive.infolist() if entry.file_size > entry.compress_size]
    if swollen:
        raise ValueError(f"{path} is refused: {swollen[0].filename} in it is compressed")


def _stored(tensor: Tensor, *, half: bool) -> Tensor:
    if half and tensor.is_floating_point():
        return tensor.half()
    return tensor.contiguous()
