"""Public checkpoints: what there is, under which licence, and how to get them.

Nothing is fetched but by `pull`, which asks the Hugging Face hub (the extra `hub`) and honours
HF_HOME and HF_HUB_OFFLINE. The list is from the authors' pages and code; memory is what float16
weights and activations at the published size need, estimated by us, not measured.
"""

import json
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from .importing import import_checkpoint
from .weights import Card, WeightsMissing, digest_of, save_card

_IN_FOLDERS = ["*.json", "*.txt", "*.safetensors", "*.bin"]
"""What counts in a folder of diffusers; pipelines in Python are never fetched."""
_LIST = Path(__file__).parent / "public_checkpoints.json"


@dataclass(frozen=True)
class PublicCheckpoint:
    """A checkpoint that others publish.

    Attributes:
        name: Ours.
        kind: The family, as for `import_checkpoint`.
        hub: Repository on the Hugging Face hub; empty where it is elsewhere, see the note.
        file: File in it; empty where the repository is a folder of diffusers.
        purpose: What it is for.
        licence: In plain words.
        commercial_use: Whether the licence allows it; False where nobody says.
        memory_gb: Memory of the GPU that it needs, estimated.
        parameters: Of its main network.
        gated: Whether its licence must be accepted on the hub first.
        sha256: Of the file, where it is known.
        bytes: Size of the file, where it is known.
        note: Anything else.
        settings: How it is used, where its kind does not say: of its card, see `docs/weights.md`.
    """

    name: str
    kind: str
    hub: str
    file: str
    purpose: str
    licence: str
    commercial_use: bool
    memory_gb: float
    parameters: int
    gated: bool = False
    sha256: str = ""
    bytes: int = 0
    note: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


@cache
def public_checkpoints() -> tuple[PublicCheckpoint, ...]:
    """List the public checkpoints that can be pulled."""
    return tuple(PublicCheckpoint(**entry) for entry in json.loads(_LIST.read_text()))


def public_checkpoint(name: str) -> PublicCheckpoint:
    """Find one by its name.

    Raises:
        ValueError: If there is none of that name.
    """
    for found in public_checkpoints():
        if found.name == name:
            return found
    have = ", ".join(found.name for found in public_checkpoints())
    raise ValueError(f"no public checkpoint is called {name!r}; there are: {have}")


def pull(name: str, output: Path, *, offline: bool = False) -> Card:
    """Fetch a public checkpoint (a started download goes on), check it and import it.

    Args:
        name: Of `public_checkpoints`.
        output: Folder of the new file and its card.
        offline: Take what is in the hub's cache (HF_HOME), and ask nobody.

    Raises:
        ValueError: If the name is unknown or the file is not what its card says.
        WeightsMissing: If the hub cannot be asked; the message says why and what to do.
    """
    wanted = public_checkpoint(name)
    path = _fetched(wanted, offline=offline)
    if wanted.sha256 and digest_of(path) != wanted.sha256:
        raise ValueError(f"{path} is not the file of {name}: its hash differs; delete it and retry")
    card = import_checkpoint(path, wanted.kind, output, name=name)
    told = {"memory_gb": wanted.memory_gb, "purpose": wanted.purpose}
    return save_card(
        replace(
            card,
            settings={**card.settings, **wanted.settings},
            licence=wanted.licence,
            commercial_use=wanted.commercial_use,
            source=f"https://huggingface.co/{wanted.hub}, {wanted.file or 'the folder'}",
            facts={**card.facts, **told},
        )
    )


def _fetched(wanted: PublicCheckpoint, *, offline: bool) -> Path:
    bring = f"run `roundview weights import {wanted.file or 'FOLDER'} --kind {wanted.kind} -o DIR`"
    if not wanted.hub:
        raise WeightsMissing(f"{wanted.name} is {wanted.note}; fetch it by hand and {bring}")
    by_hand = (
        f"or fetch {wanted.file or 'all files'} from https://huggingface.co/{wanted.hub} by hand "
        f"and {bring}"
    )
    try:
        import huggingface_hub  # noqa: PLC0415  an extra
    except ImportError as error:
        raise WeightsMissing(f"run `pip install 'roundview[hub]'`, {by_hand}") from error
    fetch, fetch_all = huggingface_hub.hf_hub_download, huggingface_hub.snapshot_download
    try:
        if wanted.file:
            return Path(fetch(wanted.hub, wanted.file, local_files_only=offline))
        kept = fetch_all(wanted.hub, allow_patterns=_IN_FOLDERS, local_files_only=offline)
        return Path(kept)
    except Exception as error:  # The hub's errors are many; each says in its name what it is.
        raise WeightsMissing(f"{_reason(error, wanted)}; {by_hand}") from error


def _reason(error: Exception, wanted: PublicCheckpoint) -> str:
    kind = type(error).__name__
    if kind == "GatedRepoError":
        return (
            f"{wanted.name} is gated: accept its licence at https://huggingface.co/{wanted.hub}, "
            "then run `hf auth login`"
        )
    if kind in ("OfflineModeIsEnabled", "LocalEntryNotFoundError"):
        return f"{wanted.name} is not in the hub's cache and the network is off or unreachable"
    return f"the hub did not give {wanted.name} ({kind}: {' '.join(str(error).split())[:120]})"
