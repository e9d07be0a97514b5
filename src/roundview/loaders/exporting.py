"""Imported weights, written for the programs of others: a folder of diffusers, or one file."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..diffusion.checkpoints.families import FAMILIES, empty_networks, original_state
from ..diffusion.checkpoints.folders import REST, Component, components_of
from ..diffusion.checkpoints.layout import must_agree
from ..diffusion.checkpoints.schedulers import scheduler_config
from ..diffusion.clip import MEAN, STD
from ..diffusion.zero123plus import SheetOptions
from ..export.files import atomic_directory, write_json
from ..weights import Card, load_tensors
from .folders import all_names

_PIPELINES = {
    "zero123": "Zero1to3StableDiffusionPipeline",
    "svd": "StableVideoDiffusionPipeline",
    **dict.fromkeys(("sd1", "sd2", "sd2-v"), "StableDiffusionPipeline"),
    "zero123plus": "Zero123PlusPipeline",
}
_RAMP = "ramp.coefficients"
"""Of Zero123++, which a folder has in its index."""
_FEATURES = {
    "image_processor_type": "CLIPImageProcessor",
    "crop_size": {"height": 224, "width": 224},
    "size": {"shortest_edge": 224},
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": list(MEAN),
    "image_std": list(STD),
    "resample": 3,
    "rescale_factor": 1 / 255,
}


def export_folder(card: Card, output: Path) -> list[str]:
    """Write a card's weights as a folder of diffusers, to the bit.

    What diffusers' classes have no place for goes beside the components into `REST`, so that
    importing the folder gives the same tensors again.

    Args:
        card: Of an imported checkpoint.
        output: The folder; files of other names in it stay.

    Returns:
        The names of the components.

    Raises:
        ValueError: If the card is not of such a checkpoint, or its file not what it says.
        WeightsMissing: If the file is missing or differs from the card.
    """
    networks, tensors = _networks_of(card)
    components = [_as_called(component, card.kind) for component in components_of(networks)]
    placed = {_RAMP}.union(*(component.ours for component in components))
    rest = {n: t for n, t in tensors.items() if n not in placed and t.numel()}
    with atomic_directory(output) as folder:
        for component in components:
            _write_component(folder / component.folder, component, tensors)
        if rest:
            told = {"kind": card.kind, "settings": json.dumps(card.settings)}
            _save(rest, folder / REST, told)
        _write_index(folder, card, components, tensors.get(_RAMP))
    return [component.folder for component in components]


def export_original(card: Card, output: Path) -> Path:
    """Write a card's weights as one safetensors file in the original's key layout.

    Raises:
        ValueError: If the card is not of such a checkpoint, or its file not what it says.
        WeightsMissing: If the file is missing or differs from the card.
    """
    networks, tensors = _networks_of(card)
    for name, network in networks.items():
        own = {n: tensors[f"{name}.{n}"] for n in network.state_dict()}
        network.load_state_dict(own, assign=True)
    path = output / f"{card.name}.safetensors"
    with atomic_directory(output) as folder:
        _save(original_state(networks, card.settings), folder / path.name, {})
    return path


def _networks_of(card: Card) -> tuple[dict[str, nn.Module], dict[str, Tensor]]:
    if card.kind not in FAMILIES:
        raise ValueError(
            f"{card.name} is of kind {card.kind}, which is our own: other programs cannot read it; "
            f"imported checkpoints of kind {', '.join(FAMILIES)} can be exported"
        )
    tensors = load_tensors(card)
    networks = empty_networks(card.kind, card.settings)
    must_agree(tensors, all_names(networks), card.file)
    return networks, tensors


def _write_component(folder: Path, component: Component, tensors: dict[str, Tensor]) -> None:
    folder.mkdir(parents=True)
    config = dict(component.config)
    if component.library == "transformers":
        config["architectures"] = [component.kind]
        name = "model.safetensors"
    else:
        config["_class_name"] = component.kind
        name = "diffusion_pytorch_model.safetensors"
    write_json(folder / "config.json", config)
    _save(component.to_theirs(tensors), folder / name, {})


def _as_called(component: Component, kind: str) -> Component:
    """Give a component the folder's name that a pipeline has for it."""
    if kind == "zero123plus" and component.folder == "image_encoder":
        return replace(component, folder="vision_encoder")
    return component


def _write_index(
    folder: Path, card: Card, components: list[Component], ramp: Tensor | None
) -> None:
    kind = card.kind
    held = {each.folder: [each.library, each.kind] for each in components}
    if set(held) in ({"vae"}, {"image_encoder"}, {"depth_estimator"}):
        return  # A component is no pipeline.
    scheduler = scheduler_config(kind)
    (folder / "scheduler").mkdir()
    write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    for name, prepared in _preparations(card, held).items():
        (folder / name).mkdir()
        write_json(folder / name / "preprocessor_config.json", prepared)
        held[name] = ["transformers", "CLIPImageProcessor"]
    held["scheduler"] = ["diffusers", scheduler["_class_name"]]
    # The extra encoder is no part of any pipeline of diffusers.
    held.pop("condition_encoder", None)
    named = {"_class_name": _PIPELINES.get(kind, "DiffusionPipeline")}
    named |= {} if ramp is None else {"ramping_coefficients": ramp.tolist()}
    write_json(folder / "model_index.json", named | held)


def _preparations(card: Card, held: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Say how pictures are prepared for a pipeline's encoders."""
    if card.kind != "zero123plus":
        return {"feature_extractor": _FEATURES} if "image_encoder" in held else {}
    told = {**asdict(SheetOptions()), **card.settings.get("options", {})}
    photo = {
        **_FEATURES,
        "image_mean": [0.5] * 3,
        "image_std": [told["photo_std"]] * 3,
        "size": {"shortest_edge": told["photo_px"]},
        "do_center_crop": False,
    }
    return {"feature_extractor_clip": _FEATURES, "feature_extractor_vae": photo}


def _save(tensors: Mapping[str, Tensor], path: Path, told: dict[str, str]) -> None:
    from safetensors.torch import save_file  # noqa: PLC0415  only what a command needs

    # Loaders of others ask for this entry.
    save_file({n: t.contiguous() for n, t in tensors.items()}, path, {"format": "pt", **told})
