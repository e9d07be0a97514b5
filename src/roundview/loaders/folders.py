"""Folders of diffusers on disk, read into networks; `exporting` writes them."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..diffusion.checkpoints.families import Settings, empty_networks, family
from ..diffusion.checkpoints.folders import (
    PROJECTIONS,
    REST,
    Component,
    components_of,
    in_original_names,
    must_be_told,
    renamed,
    sizes_in_folder,
)
from ..diffusion.checkpoints.layout import fill, must_agree
from ..diffusion.checkpoints.schedulers import scheduler_config
from ..export.files import read_json

Read = Callable[[Path], dict[str, Tensor]]
"""read(file) -> its tensors; `importing.read_checkpoint`, which refuses what is unsafe."""

_BASES = ("diffusion_pytorch_model", "model", "pytorch_model")
_NAMES = (
    *("{}.safetensors", "{}.safetensors.index.json"),
    *("{}.fp16.safetensors", "{}.safetensors.index.fp16.json", "{}.fp16.safetensors.index.json"),
    *("{}.bin", "{}.bin.index.json", "{}.fp16.bin", "{}.bin.index.fp16.json"),
)
"""Names of a component's weights, the most exact first."""


def read_folder(
    folder: Path, kind: str, read: Read
) -> tuple[dict[str, nn.Module], dict[str, Settings]]:
    """Make a family's networks out of a folder of diffusers.

    Args:
        folder: A pipeline's (a folder a component), or one component's own.
        kind: One of `FAMILIES`.
        read: Reads one file.

    Returns:
        Networks and their sizes, by name, as `read_networks` gives them.

    Raises:
        ValueError: If a component, a file or a tensor is missing, there is one too many, or a
            configuration asks for what our networks do not do; the message names it.
    """
    places = _places(folder)
    configs = {name: _config(place) for name, place in places.items()}
    _must_be_scheduled(folder, kind)
    ported = _port_of_mvdream(kind, places, configs, read)
    known, rest = _read_rest(folder / REST, kind, read)
    known |= {} if ported is None else {"unet": ported[0]}
    if any(part.name == "ramp" for part in family(kind)):
        rest |= {"ramp.coefficients": _ramp(folder)}
        known |= {"ramp": {"length": len(rest["ramp.coefficients"]), "prefix": "ramp."}}
    sizes = sizes_in_folder(kind, configs, known)
    networks = empty_networks(kind, sizes)
    tensors, names = dict(rest), {name: name for name in rest}
    for component in components_of(networks):
        if ported is not None and component.folder == "unet":
            as_named = in_original_names(networks["unet"], "unet")
            found = as_named.to_ours(ported[1])
        else:
            found = _read_component(component, places, configs, read)
        tensors |= found
        names |= {name: f"{component.folder}/, {name}" for name in found}
    _fill_all(networks, tensors, names)
    return networks, sizes


def stated_in(folder: Path) -> dict[str, Settings]:
    """Read how a folder's pictures are to be prepared, where it says so: Zero123++'s photograph.

    Raises:
        ValueError: If they are to be prepared as our network does not do.
    """
    path = folder / "feature_extractor_vae" / "preprocessor_config.json"
    if not path.is_file():
        return {}
    told = read_json(path)
    try:
        mean, std = set(told["image_mean"]), set(told["image_std"])
        size = told.get("size", {})
        side = size.get("shortest_edge") or size.get("height") if isinstance(size, dict) else size
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is not as transformers': {error}") from error
    if mean != {0.5} or len(std) != 1:
        raise ValueError(f"{path}: image_mean must be 0.5 and image_std one number")
    options = {"photo_std": std.pop()}
    if side and told.get("do_resize", True):
        options["photo_px"] = int(side)
    return {"options": options}


def _ramp(folder: Path) -> Tensor:
    """Read the numbers by which Zero123++ adds a picture's embedding to a prompt's tokens."""
    path = folder / "model_index.json"
    numbers = read_json(path).get("ramping_coefficients") if path.is_file() else None
    if not isinstance(numbers, list) or not all(isinstance(n, int | float) for n in numbers):
        raise ValueError(f"{path} lacks ramping_coefficients, one number for each token")
    return torch.tensor(numbers, dtype=torch.float32)


def all_names(networks: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Give the tensors of several networks, each network's name before its own."""
    return {
        f"{name}.{inner}": tensor
        for name, network in networks.items()
        for inner, tensor in network.state_dict().items()
    }


def _read_component(
    component: Component, places: Mapping[str, Path], configs: Mapping[str, Any], read: Read
) -> dict[str, Tensor]:
    name = component.folder
    if name not in places:
        raise ValueError(f"the folder {name}/ is missing")
    must_be_told(component, configs[name])
    return component.to_ours(renamed(component, _weights(places[name], read)))


def _places(folder: Path) -> dict[str, Path]:
    """Find the components: sub-folders with a configuration, or the folder itself."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder")
    if (folder / "config.json").is_file():
        return {_called(_config(folder)): folder}
    found = {each.parent.name: each.parent for each in sorted(folder.glob("*/config.json"))}
    for other in PROJECTIONS[1:]:
        if other in found and PROJECTIONS[0] not in found:
            found[PROJECTIONS[0]] = found.pop(other)
    if "vision_encoder" in found:  # Zero123++'s name for it.
        found["image_encoder"] = found.pop("vision_encoder")
    if not found:
        raise ValueError(f"{folder} holds no component of diffusers (a folder with config.json)")
    return found


def _config(folder: Path) -> dict[str, Any]:
    """Read a component's configuration; of CLIP's two towers in one folder, the pictures'."""
    told = read_json(folder / "config.json")
    vision = told.get("vision_config")
    if not isinstance(vision, dict):
        return told
    projected = {"projection_dim": told.get("projection_dim", 512)}
    return {**vision, **projected, "architectures": ["CLIPVisionModelWithProjection"]}


def _called(config: Mapping[str, Any]) -> str:
    """Give the name that a component that lies alone has in a pipeline."""
    kinds = json.dumps([config.get("architectures", ""), config.get("_class_name", "")])
    told = {
        "DPTForDepth": "depth_estimator",
        "CLIPVision": "image_encoder",
        "Autoencoder": "vae",
    }
    return next((name for kind, name in told.items() if kind in kinds), "unet")


def _weights(folder: Path, read: Read) -> dict[str, Tensor]:
    """Read a component's weights: one file, or the parts that an index names."""
    for name in (pattern.format(base) for base in _BASES for pattern in _NAMES):
        path = folder / name
        if path.is_file():
            return _read_parts(path, read) if name.endswith(".json") else read(path)
    raise ValueError(f"{folder} holds no weights, like {_BASES[0]}.safetensors")


def _read_parts(index: Path, read: Read) -> dict[str, Tensor]:
    where = read_json(index).get("weight_map")
    if not isinstance(where, Mapping) or not where:
        raise ValueError(f"{index} names no parts: it has no weight_map")
    state: dict[str, Tensor] = {}
    for part in sorted({str(file) for file in where.values()}):
        # An index names files of its own folder; anything else could point out of it.
        if Path(part).name != part:
            raise ValueError(f"{index}: {part!r} is no plain file name")
        held = read(index.parent / part)
        must_agree(held, [name for name, file in where.items() if file == part], part)
        state |= held
    return state


def _read_rest(path: Path, kind: str, read: Read) -> tuple[dict[str, Settings], dict[str, Tensor]]:
    """Read what our export laid beside the components: sizes and tensors; nothing elsewhere."""
    if not path.is_file():
        return {}, {}
    from safetensors import safe_open  # noqa: PLC0415  only what a command needs

    tensors = read(path)
    with safe_open(path, "pt") as file:
        told = dict(file.metadata() or {})
    if told.get("kind") != kind:
        raise ValueError(f"{path} is of a {told.get('kind')} checkpoint, not {kind}")
    try:
        sizes = json.loads(told["settings"])
        return {part.name: sizes[part.name] for part in family(kind) if part.name in sizes}, tensors
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not tell the networks' sizes: {error}") from error


def _port_of_mvdream(
    kind: str, places: Mapping[str, Path], configs: Mapping[str, Any], read: Read
) -> tuple[Settings, dict[str, Tensor]] | None:
    """Read a UNet whose class keeps the original's names, if the folder has one."""
    if "model_channels" not in configs.get("unet", {}):
        return None
    part = next((part for part in family(kind) if part.name == "unet"), None)
    if part is None:
        raise ValueError(f"this is no {kind} checkpoint: its unet/ is of MVDream's kind")
    state = _weights(places["unet"], read)
    return {**part.measure(state), "prefix": part.prefixes[0]}, state


def _fill_all(
    networks: Mapping[str, nn.Module], tensors: dict[str, Tensor], names: dict[str, str]
) -> None:
    wanted = all_names(networks)
    for name, empty in wanted.items():
        if name not in tensors and not empty.numel():
            tensors[name], names[name] = torch.zeros(empty.shape), name
    must_agree(tensors, wanted)
    for name, network in networks.items():
        own = {inner: tensors[f"{name}.{inner}"] for inner in network.state_dict()}
        fill(network, own, {inner: names[f"{name}.{inner}"] for inner in own})


def _must_be_scheduled(folder: Path, kind: str) -> None:
    """Refuse a scheduler that says the networks predict something else than this family's do."""
    path = folder / "scheduler" / "scheduler_config.json"
    if not path.is_file():
        return
    told, ours = read_json(path), scheduler_config(kind)
    for key in ("prediction_type", "beta_start", "beta_end", "beta_schedule"):
        if key in told and key in ours and told[key] != ours[key]:
            raise ValueError(
                f"scheduler/scheduler_config.json: {key} is {told[key]!r}; {kind} has {ours[key]!r}"
            )
