"""CLIP's towers under the names that `transformers` gives them, and back."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..clip import ClipShape, ClipTower
from ..clip_text import ClipText, ClipTextShape
from .layout import Layout

_IMAGE_ENDS = {
    "conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "class_embedding": "vision_model.embeddings.class_embedding",
    "positional_embedding": "vision_model.embeddings.position_embedding.weight",
}
_TEXT_ENDS = {
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
}
# "pre_layrnorm" is how transformers spells it.
_INSIDE = (
    ("ln_pre.", "vision_model.pre_layrnorm."),
    ("ln_post.", "vision_model.post_layernorm."),
)
_BLOCKS = "transformer.resblocks."
_BLOCK = (
    ("ln_1.", "layer_norm1."),
    ("ln_2.", "layer_norm2."),
    ("attn.out_proj.", "self_attn.out_proj."),
    ("mlp.c_fc.", "mlp.fc1."),
    ("mlp.c_proj.", "mlp.fc2."),
)


@dataclass(frozen=True)
class Joined:
    """One of our tensors that is several of theirs, one after another, or one that is turned.

    Attributes:
        ours: Our name.
        theirs: Their names, in order along the first axis.
        turned: Whether rows are columns there.
    """

    ours: str
    theirs: tuple[str, ...]
    turned: bool = False

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Make ours of theirs."""
        whole = torch.cat(list(parts)) if len(parts) > 1 else parts[0]
        return whole.mT.contiguous() if self.turned else whole

    def part(self, whole: Tensor) -> list[Tensor]:
        """Make theirs of ours."""
        turned = whole.mT if self.turned else whole
        return [part.contiguous() for part in turned.chunk(len(self.theirs))]


class NamedText(ClipText):
    """A text tower that transformers' names are kept of in the original, too.

    Stable Diffusion 1 has OpenAI's ViT-L/14 so in its file (Radford et al. 2021): all its blocks
    are asked, and there is no projection.
    """

    def __init__(self, shape: ClipTextShape) -> None:
        super().__init__(shape)
        del self.text_projection

    def layout(self) -> Layout:
        """Give the original's names of each tensor, from `text_model` on."""
        names, joined = text_names(self)
        return Layout(names, parted={each.ours: each.theirs for each in joined})


def named_text_shape_from_state(state: Mapping[str, Tensor]) -> ClipTextShape:
    """Read a tower's shape off its tensors in transformers' names: OpenAI's, heads of 64 channels.

    Raises:
        ValueError: If this is no such tower.
    """
    layer = "text_model.encoder.layers."
    try:
        vocabulary, width = state["text_model.embeddings.token_embedding.weight"].shape
        length = state["text_model.embeddings.position_embedding.weight"].shape[0]
        inner = state[f"{layer}0.mlp.fc1.weight"].shape[0]
        layers = 1 + max(int(n.split(".")[3]) for n in state if n.startswith(layer))
    except (KeyError, ValueError, IndexError) as error:
        raise ValueError(f"this is no CLIP text tower: it lacks {error}") from error
    return ClipTextShape(
        *(int(width), layers, max(width // 64, 1), int(vocabulary), int(length)),
        out=0,
        widening=inner / width,
        quick=True,
        skipped=0,
    )


def tower_names(tower: ClipTower) -> tuple[dict[str, str], list[Joined]]:
    """Give transformers' names of an image tower's tensors."""
    names, joined = _block_names(tower.state_dict(), "vision_model.", tower.shape.layers)
    # CLIPVisionModel has no projection; such a tower's has no columns.
    if tower.shape.out:
        joined.append(Joined("proj", ("visual_projection.weight",), turned=True))
    for name in tower.state_dict():
        if name != "proj" and not name.startswith(_BLOCKS):
            names[name] = _IMAGE_ENDS.get(name) or _renamed(name, _INSIDE)
    return names, joined


def text_names(tower: ClipText) -> tuple[dict[str, str], list[Joined]]:
    """Give transformers' names of a text tower's tensors, but for what CLIPTextModel lacks.

    That is the projection, and the blocks at the end that are not asked.
    """
    asked = tower.shape.layers - tower.shape.skipped
    names, joined = _block_names(tower.state_dict(), "text_model.", asked)
    return names | _TEXT_ENDS, joined


def tower_config(shape: ClipShape) -> dict[str, Any]:
    """Give transformers' configuration of a tower."""
    told = {
        "model_type": "clip_vision_model",
        "hidden_size": shape.width,
        "intermediate_size": round(shape.width * shape.widening),
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_channels": 3,
        "image_size": shape.side,
        "patch_size": shape.patch,
        "hidden_act": "quick_gelu" if shape.quick else "gelu",
        "layer_norm_eps": 1e-5,
    }
    return told | ({"projection_dim": shape.out} if shape.out else {})


def tower_shape(config: Mapping[str, Any]) -> ClipShape:
    """Read transformers' configuration of a tower.

    Raises:
        KeyError: If a size is missing.
        ValueError: If its activation is unknown.
    """
    # transformers leaves out of the file what has its default value: ViT-B/32's.
    width = int(config.get("hidden_size", 768))
    projected = "CLIPVisionModel" not in config.get("architectures", ())
    return ClipShape(
        width=width,
        layers=int(config.get("num_hidden_layers", 12)),
        heads=int(config.get("num_attention_heads", 12)),
        patch=int(config.get("patch_size", 32)),
        side=int(config.get("image_size", 224)),
        out=int(config.get("projection_dim", 512)) if projected else 0,
        widening=int(config.get("intermediate_size", 3072)) / width,
        quick=_is_quick(config),
    )


def text_config(shape: ClipTextShape) -> dict[str, Any]:
    """Give transformers' configuration of a text tower."""
    return {
        "model_type": "clip_text_model",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.width,
        "intermediate_size": round(shape.width * shape.widening),
        "num_hidden_layers": shape.layers - shape.skipped,
        "num_attention_heads": shape.heads,
        "max_position_embeddings": shape.length,
        "hidden_act": "quick_gelu" if shape.quick else "gelu",
        "layer_norm_eps": 1e-5,
    }


def text_shape(config: Mapping[str, Any]) -> ClipTextShape:
    """Read transformers' configuration of a text tower, which has only the blocks that are asked.

    Raises:
        ValueError: If its activation is unknown.
    """
    width = int(config.get("hidden_size", 512))
    return ClipTextShape(
        width=width,
        layers=int(config.get("num_hidden_layers", 12)),
        heads=int(config.get("num_attention_heads", 8)),
        vocabulary=int(config.get("vocab_size", 49408)),
        length=int(config.get("max_position_embeddings", 77)),
        out=0,
        widening=int(config.get("intermediate_size", 2048)) / width,
        quick=_is_quick(config),
        skipped=0,
    )


def _is_quick(config: Mapping[str, Any]) -> bool:
    activation = config.get("hidden_act", "quick_gelu")
    if activation not in ("quick_gelu", "gelu"):
        raise ValueError(f"the activation {activation!r} is unknown")
    return activation == "quick_gelu"


def _block_names(
    state: Iterable[str], prefix: str, layers: int
) -> tuple[dict[str, str], list[Joined]]:
    """Name the tensors of the first blocks; three of attention's are one with us."""
    names: dict[str, str] = {}
    joined: list[Joined] = []
    for name in state:
        layer, _, rest = name.removeprefix(_BLOCKS).partition(".")
        if not name.startswith(_BLOCKS) or int(layer) >= layers:
            continue
        at = f"{prefix}encoder.layers.{layer}."
        if rest.startswith("attn.in_proj_"):
            kind = rest.removeprefix("attn.in_proj_")
            joined.append(Joined(name, tuple(f"{at}self_attn.{x}_proj.{kind}" for x in "qkv")))
        else:
            names[name] = at + _renamed(rest, _BLOCK)
    return names, joined


def _renamed(name: str, table: Sequence[tuple[str, str]]) -> str:
    for ours, theirs in table:
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    raise ValueError(f"no name is known for {name} in transformers")
