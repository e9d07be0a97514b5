"""DPT-hybrid in the layout of MiDaS' code, and the configuration that transformers has of it.

Ranftl et al., "Vision Transformers for Dense Prediction", 2021; MiDaS 3.0's
`dpt_hybrid-midas-501f0c75.pt`, whose transformer has the names of timm.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .layout import Layout

_TRUNK = "pretrained.model."
_BIT = "dpt.embeddings.backbone.bit."
_NAMES = (
    ("dpt.embeddings.cls_token", f"{_TRUNK}cls_token"),
    ("dpt.embeddings.position_embeddings", f"{_TRUNK}pos_embed"),
    ("dpt.embeddings.projection.", f"{_TRUNK}patch_embed.proj."),
    (f"{_BIT}embedder.convolution.", f"{_TRUNK}patch_embed.backbone.stem.conv."),
    (f"{_BIT}embedder.norm.", f"{_TRUNK}patch_embed.backbone.stem.norm."),
    ("dpt.layernorm.", f"{_TRUNK}norm."),
    *((f"neck.convs.{k}.", f"scratch.layer{k + 1}_rn.") for k in range(4)),
    ("head.head.", "scratch.output_conv."),
    # Two of the four maps come from the convolutions, and need no assembling.
    *(
        (f"neck.reassemble_stage.readout_projects.{k}.0.", f"pretrained.act_postprocess{k + 1}.0.")
        for k in (2, 3)
    ),
    *(
        (
            f"neck.reassemble_stage.layers.{k}.projection.",
            f"pretrained.act_postprocess{k + 1}.3.",
        )
        for k in (2, 3)
    ),
    ("neck.reassemble_stage.layers.3.resize.", "pretrained.act_postprocess4.4."),
)
_BLOCK = (
    ("layernorm_before.", "norm1."),
    ("layernorm_after.", "norm2."),
    ("attention.output.dense.", "attn.proj."),
    ("intermediate.dense.", "mlp.fc1."),
    ("output.dense.", "mlp.fc2."),
)
_FUSION = (
    ("projection.", "out_conv."),
    ("residual_layer1.convolution", "resConfUnit1.conv"),
    ("residual_layer2.convolution", "resConfUnit2.conv"),
)
_NUMBERED = (
    ("dpt.encoder.layer.", f"{_TRUNK}blocks.", _BLOCK),
    (f"{_BIT}encoder.stages.", f"{_TRUNK}patch_embed.backbone.stages.", (("layers.", "blocks."),)),
    ("neck.fusion_stage.layers.", "scratch.refinenet", _FUSION),
)


@dataclass(frozen=True)
class DptShape:
    """Sizes of a DPT-hybrid; MiDaS 3.0's by default.

    Attributes:
        width: Of a token.
        layers: Blocks of the transformer.
        heads: Of its attention.
        inner: Of its feed-forward parts.
        taken: After which blocks tokens are taken; the first two count for nothing.
        side: Side of the pictures, pixels.
        stem: Channels after the first convolution.
        stages: Channels after each stage of the convolutions.
        depths: Blocks of each stage.
        fused: Channels of the maps that are fused.
    """

    width: int = 768
    layers: int = 12
    heads: int = 12
    inner: int = 3072
    taken: tuple[int, ...] = (2, 5, 8, 11)
    side: int = 384
    stem: int = 64
    stages: tuple[int, ...] = (256, 512, 1024)
    depths: tuple[int, ...] = (3, 4, 9)
    fused: int = 256


def dpt_config(shape: DptShape) -> dict[str, Any]:
    """Give transformers' configuration."""
    cells = shape.side // 16
    return {
        "model_type": "dpt",
        "is_hybrid": True,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.inner,
        "hidden_act": "gelu",
        # MiDaS' and timm's; transformers' own files say 1e-12.
        "layer_norm_eps": 1e-6,
        "image_size": shape.side,
        "patch_size": 16,
        "qkv_bias": True,
        "backbone_out_indices": list(shape.taken),
        "readout_type": "project",
        "reassemble_factors": [1, 1, 1, 0.5],
        "neck_hidden_sizes": [*shape.stages[:2], shape.width, shape.width],
        "neck_ignore_stages": [0, 1],
        "backbone_featmap_shape": [1, shape.stages[-1], cells, cells],
        "fusion_hidden_size": shape.fused,
        "head_in_index": -1,
        "use_batch_norm_in_fusion_residual": False,
        "add_projection": False,
        "backbone_config": {
            "model_type": "bit",
            "global_padding": "same",
            "layer_type": "bottleneck",
            "embedding_size": shape.stem,
            # One more than there are, as transformers wants it.
            "hidden_sizes": [*shape.stages, 2 * shape.stages[-1]],
            "depths": list(shape.depths),
            "out_features": ["stage1", "stage2", "stage3"],
            "embedding_dynamic_padding": True,
        },
    }


def dpt_shape(config: Mapping[str, Any]) -> DptShape:
    """Read transformers' configuration.

    Raises:
        ValueError: If it is of a DPT that has no convolutions before its transformer.
        KeyError: If a size is missing.
    """
    if not config.get("is_hybrid"):
        raise ValueError("only DPT-hybrid is supported (is_hybrid)")
    # transformers leaves out of the file what has its default value: MiDaS 3.0's.
    usual = DptShape()
    bit = config.get("backbone_config") or {}
    sizes = bit.get("hidden_sizes", [*usual.stages, 2048])
    return DptShape(
        width=int(config.get("hidden_size", usual.width)),
        layers=int(config.get("num_hidden_layers", usual.layers)),
        heads=int(config.get("num_attention_heads", usual.heads)),
        inner=int(config.get("intermediate_size", usual.inner)),
        taken=tuple(int(k) for k in config.get("backbone_out_indices", usual.taken)),
        side=int(config.get("image_size", usual.side)),
        stem=int(bit.get("embedding_size", usual.stem)),
        stages=tuple(int(size) for size in sizes[:3]),
        depths=tuple(int(depth) for depth in bit.get("depths", usual.depths)[:3]),
        fused=int(config.get("fusion_hidden_size", usual.fused)),
    )


def dpt_layout(ours: Iterable[str], *, before: str) -> Layout:
    """Give MiDaS' name of each tensor; queries, keys and values are one there.

    Args:
        ours: Names as transformers has them, with `before` before them.
        before: Taken off first.

    Raises:
        ValueError: If a tensor has no name there.
    """
    names: dict[str, str] = {}
    joined: dict[str, list[str]] = {}
    for whole in ours:
        name = whole.removeprefix(before)
        layer, _, rest = name.removeprefix("dpt.encoder.layer.").partition(".")
        if name.startswith("dpt.encoder.layer.") and rest.startswith("attention.attention."):
            # In the order of the state: query, key, value.
            kind = rest.rpartition(".")[2]
            joined.setdefault(f"{_TRUNK}blocks.{layer}.attn.qkv.{kind}", []).append(whole)
        else:
            names[whole] = _original(name)
    parts = {there: tuple(sorted(each, key=_order)) for there, each in joined.items()}
    return Layout(names, joined=parts)


def _order(name: str) -> int:
    return next(k for k, part in enumerate((".query.", ".key.", ".value.")) if part in name)


def _original(name: str) -> str:
    for ours, there in _NAMES:
        if name.startswith(ours):
            # What reads the class token out has one name more in the original.
            more = "project.0." if "readout_projects" in ours else ""
            return there + more + name.removeprefix(ours)
    for ours, there, table in _NUMBERED:
        number, _, rest = name.removeprefix(ours).partition(".")
        found = next((pair for pair in table if rest.startswith(pair[0])), None)
        if name.startswith(ours) and found is not None:
            # MiDaS counts the maps that are fused from the finest on.
            place = str(4 - int(number)) if ours.startswith("neck.") else number
            return f"{there}{place}.{found[1]}{rest.removeprefix(found[0])}"
    raise ValueError(f"no name is known for {name} in MiDaS")
