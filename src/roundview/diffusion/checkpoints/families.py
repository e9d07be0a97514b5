"""Whole checkpoints: which networks each family's file holds, and under which names."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from ..clip import ClipShape, ClipTower, clip_shape_from_state
from ..clip_text import ClipText, ClipTextShape, clip_text_shape_from_state
from ..dpt import DptHybrid, dpt_shape_from_state
from ..imagedream import ImageDreamUNet, ResamplerShape, resampler_shape_from_state
from ..ldm_autoencoder import ClipDecoder, LdmAutoencoder
from ..ldm_unet import LdmUNet
from ..video_unet import VideoUNet
from ..zero123 import Zero123Net
from ..zero123plus import Ramp
from .autoencoder import AutoencoderShape, autoencoder_shape_from_state
from .dpt import DptShape
from .layout import Layout, load_original, must_agree, under
from .transformers_clip import NamedText, named_text_shape_from_state
from .unet import UNetShape, shape_from_state

Settings = dict[str, Any]
Build = Callable[[Settings], nn.Module]
Measure = Callable[[Mapping[str, Tensor]], Settings]


@dataclass(frozen=True)
class Network:
    """One network of a checkpoint.

    Attributes:
        name: Ours.
        prefixes: What its tensors' names may begin with; the first that is there counts.
        measure: Reads its sizes off its tensors, whose names no longer have the prefix.
        build: Makes the network of such sizes, empty.
        keep: Beginnings of the names that belong to it; () for all under the prefix.
        optional: Whether a checkpoint may lack it.
    """

    name: str
    prefixes: tuple[str, ...]
    measure: Measure
    build: Build
    keep: tuple[str, ...] = ()
    optional: bool = False

    def taken(self, state: Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
        """Take its tensors out of a checkpoint, with their prefix; none if it is not there."""
        for prefix in self.prefixes:
            found = under(state, prefix)
            if self.keep:
                found = {n: t for n, t in found.items() if n.startswith(self.keep)}
            if found:
                return prefix, found
        return "", {}


def read_networks(
    kind: str, state: Mapping[str, Tensor]
) -> tuple[dict[str, nn.Module], dict[str, Settings]]:
    """Make a family's networks out of a checkpoint's tensors.

    Args:
        kind: One of `FAMILIES`.
        state: In the original key layout.

    Returns:
        Networks and their sizes, by name.

    Raises:
        ValueError: If the kind is unknown, a network is missing, names or shapes differ, or a
            tensor belongs to no network and is none of `LEFT_OUT`.
    """
    networks: dict[str, nn.Module] = {}
    sizes: dict[str, Settings] = {}
    used: set[str] = set()
    for part in family(kind):
        prefix, found = part.taken(state)
        if not found:
            if part.optional:
                continue
            raise ValueError(
                f"this is no {kind} checkpoint: nothing in it begins with "
                f"{' or '.join(repr(prefix) for prefix in part.prefixes)}"
            )
        sizes[part.name] = {**part.measure(found), "prefix": prefix}
        with torch.device("meta"):
            network = part.build(sizes[part.name])
        load_original(network, layout_of_network(network), found)
        networks[part.name] = network
        used |= {prefix + name for name in found}
    # Of a single network's kind the file may be of anything that has it.
    unknown = [n for n in state if n not in used and not n.startswith(LEFT_OUT)]
    if unknown and len(family(kind)) > 1:
        must_agree(dict.fromkeys(unknown, torch.empty(0)), (), f"the {kind} checkpoint")
    return networks, sizes


def empty_networks(kind: str, sizes: Mapping[str, Settings]) -> dict[str, nn.Module]:
    """Make a family's networks of given sizes, without weights (on the meta device)."""
    with torch.device("meta"):
        return {
            part.name: part.build(sizes[part.name]) for part in family(kind) if part.name in sizes
        }


def original_state(
    networks: Mapping[str, nn.Module], sizes: Mapping[str, Settings]
) -> dict[str, Tensor]:
    """Give networks' tensors as the original checkpoint names them."""
    state: dict[str, Tensor] = {}
    for name, network in networks.items():
        named = layout_of_network(network).to_original(network.state_dict())
        state |= {sizes[name]["prefix"] + tensor: value for tensor, value in named.items()}
    return state


def layout_of_network(network: nn.Module) -> Layout:
    """Give a network's own names in the original, or the same ones where they never differed."""
    layout = getattr(network, "layout", None)
    return layout() if layout is not None else Layout({n: n for n in network.state_dict()})


def family(kind: str) -> tuple[Network, ...]:
    """Look up the networks of a kind of checkpoint.

    Raises:
        ValueError: If there is none of that name.
    """
    if kind not in FAMILIES:
        raise ValueError(f"--kind {kind!r} is unknown; there are: {', '.join(FAMILIES)}")
    return FAMILIES[kind]


def _unet_sizes(state: Mapping[str, Tensor]) -> Settings:
    # Stable Diffusion 1 and its kin, whose transformers begin with a convolution, have 8 heads at
    # every level; the second has heads of 64 channels. The tensors do not tell otherwise.
    first = state.get("middle_block.1.proj_in.weight")
    heads = 8 if first is not None and first.ndim == 4 else 0
    return {"shape": asdict(shape_from_state(state, heads=heads))}


def _zero123_sizes(state: Mapping[str, Tensor]) -> Settings:
    return _unet_sizes(under(state, "model.diffusion_model."))


def _imagedream_sizes(state: Mapping[str, Tensor]) -> Settings:
    network = {n: t for n, t in state.items() if not n.startswith("image_embed.")}
    tokens = resampler_shape_from_state(under(state, "image_embed."))
    return {"shape": asdict(shape_from_state(network)), "resampler": asdict(tokens)}


def _autoencoder_sizes(state: Mapping[str, Tensor]) -> Settings:
    quant = "quant_conv.weight" in state
    return {"shape": asdict(autoencoder_shape_from_state(state)), "quant": quant}


def _first_stage_sizes(state: Mapping[str, Tensor]) -> Settings:
    video = any(".time_stack." in name for name in state)
    return {**_autoencoder_sizes(state), "video": video}


def _clip_sizes(state: Mapping[str, Tensor]) -> Settings:
    return {"shape": asdict(clip_shape_from_state(state))}


def _text_sizes(state: Mapping[str, Tensor]) -> Settings:
    named = any(name.startswith("text_model.") for name in state)
    measure = named_text_shape_from_state if named else clip_text_shape_from_state
    return {"shape": asdict(measure(state))}


def _text(settings: Settings) -> nn.Module:
    named = settings.get("prefix", "").endswith(_NAMED)
    return (NamedText if named else ClipText)(_shape(ClipTextShape, settings))


def _shape(kind: type[Any], settings: Settings, name: str = "shape") -> Any:  # noqa: ANN401  any shape
    told = settings[name]
    # JSON turns tuples into lists.
    values = {f.name: told[f.name] for f in fields(kind)}
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def _autoencoder(settings: Settings, *, upcast: bool = False) -> nn.Module:
    shape = _shape(AutoencoderShape, settings)
    return LdmAutoencoder(shape, quant=settings["quant"], upcast=upcast)


class FirstStage(nn.Module):
    """Stable Video Diffusion's: a picture's encoder and a clip's decoder.

    The original's has no `quant_conv`; diffusers' has one, after the encoder. It encodes
    in float32.
    """

    def __init__(self, shape: AutoencoderShape, *, quant: bool = False) -> None:
        super().__init__()
        self.pictures = LdmAutoencoder(shape, quant=quant, upcast=True)
        self.pictures.net.decoder = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
        self.pictures.net.post_quant_conv = None
        self.clips = ClipDecoder(shape)

    def layout(self) -> Layout:
        """Give the original's name of each tensor, from `encoder` and `decoder` on."""
        encoder, decoder = self.pictures.layout(), self.clips.layout()
        return Layout(
            {f"pictures.{n}": o for n, o in encoder.names.items()}
            | {f"clips.{n}": o for n, o in decoder.names.items()},
            frozenset(f"pictures.{n}" for n in encoder.flat)
            | frozenset(f"clips.{n}" for n in decoder.flat),
        )


def _first_stage(settings: Settings) -> nn.Module:
    if settings["video"]:
        return FirstStage(_shape(AutoencoderShape, settings), quant=settings["quant"])
    return _autoencoder(settings, upcast=True)


_NAMED = "transformer."
"""Stable Diffusion 1 has its text tower under this name, and in transformers' names."""
_ENDS = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")
_TOWER = (
    *("conv1.", "class_embedding", "positional_embedding", "ln_pre.", "ln_post."),
    *("transformer.", "proj"),
)


def _autoencoder_at(name: str, *prefixes: str) -> Network:
    return Network(name, prefixes, _autoencoder_sizes, _autoencoder, _ENDS)


def _tower_at(*prefixes: str) -> Network:
    return Network(
        "image_tower",
        prefixes,
        _clip_sizes,
        lambda settings: ClipTower(_shape(ClipShape, settings)),
        _TOWER,
        optional=True,
    )


def _text_at(*prefixes: str) -> Network:
    named = ("embeddings.token_", "embeddings.position_embedding.", "encoder.", "final_layer_norm.")
    return Network(
        "text_tower",
        prefixes,
        _text_sizes,
        _text,
        (
            *("token_embedding.", "positional_embedding", "transformer.", "ln_final.", "text_proj"),
            *(f"text_model.{part}" for part in named),
        ),
        optional=True,
    )


def _views_at(prefix: str) -> Network:
    return Network(
        "unet",
        (prefix,),
        _unet_sizes,
        lambda settings: LdmUNet(_shape(UNetShape, settings)),
    )


_VIDEO = (
    Network(
        "unet",
        ("model.diffusion_model.",),
        _unet_sizes,
        lambda settings: VideoUNet(_shape(UNetShape, settings)),
    ),
    Network("first_stage", ("first_stage_model.",), _first_stage_sizes, _first_stage, _ENDS),
    _tower_at("conditioner.embedders.0.open_clip.model.visual."),
    Network(
        "condition_encoder",
        ("conditioner.embedders.3.encoder.", "conditioner.embedders.1.encoder."),
        _autoencoder_sizes,
        lambda settings: _autoencoder(settings, upcast=True),
        _ENDS,
        optional=True,
    ),
)
_MULTIVIEW = (
    _views_at("model.diffusion_model."),
    _autoencoder_at("autoencoder", "first_stage_model."),
    _tower_at("cond_stage_model.model.visual."),
    # MVDream was trained from Stable Diffusion 2.1, and from 1.5.
    _text_at("cond_stage_model.model.", f"cond_stage_model.{_NAMED}"),
)
_PICTURES = (
    _views_at("model.diffusion_model."),
    _autoencoder_at("autoencoder", "first_stage_model."),
)
LEFT_OUT = (
    # Schedules and what training needed.
    *("betas", "alphas_cumprod", "sqrt_", "log_one_minus_", "posterior_", "lvlb_weights"),
    *("logvar", "scale_factor", "model_ema.", "first_stage_model.loss.", "denoiser."),
    # Conditioners' other networks: texts where none are told, aesthetics, depth.
    *("cond_stage_model.", "clip_model.", "conditioner.embedders.", "depth_model."),
)
"""Beginnings of the names in a checkpoint that no network here needs."""
FAMILIES: dict[str, tuple[Network, ...]] = {
    "zero123": (
        Network(
            "net",
            ("",),
            _zero123_sizes,
            lambda settings: Zero123Net(_shape(UNetShape, settings)),
            ("model.diffusion_model.", "cc_projection."),
        ),
        _autoencoder_at("autoencoder", "first_stage_model."),
        _tower_at("cond_stage_model.model.visual."),
    ),
    "svd": _VIDEO,
    "sv3d": _VIDEO,
    "hi3d": _VIDEO,
    "mvdream": _MULTIVIEW,
    # It is told no words; what its file still holds of a text tower cannot read any.
    "isotropic3d": _MULTIVIEW[:3],
    "imagedream": (
        Network(
            "unet",
            ("model.diffusion_model.",),
            _imagedream_sizes,
            lambda settings: ImageDreamUNet(
                _shape(UNetShape, settings), _shape(ResamplerShape, settings, "resampler")
            ),
        ),
        _autoencoder_at("autoencoder", "vae_model.", "first_stage_model."),
        _tower_at("clip_model.model.visual."),
        _text_at("clip_model.model."),
    ),
    "sd1": (*_PICTURES, _text_at(f"cond_stage_model.{_NAMED}")),
    # The second predicts velocities; the tensors are alike.
    "sd2": (*_PICTURES, _text_at("cond_stage_model.model.")),
    "sd2-v": (*_PICTURES, _text_at("cond_stage_model.model.")),
    "sd2-depth": (*_PICTURES, _text_at("cond_stage_model.model.")),
    # Published as a folder of diffusers only; the prefixes are Stable Diffusion 2's, and ours.
    "zero123plus": (
        _views_at("model.diffusion_model."),
        _autoencoder_at("autoencoder", "first_stage_model."),
        _tower_at("vision_model.visual."),
        _text_at("cond_stage_model.model."),
        Network(
            "ramp",
            ("ramp.",),
            lambda state: {"length": len(state["coefficients"])},
            lambda settings: Ramp(settings["length"]),
        ),
    ),
    "dpt": (
        Network(
            "depth_estimator",
            # MiDaS' own file, and what Stable Diffusion 2 keeps of it in its own.
            ("", "depth_model.model."),
            lambda state: {"shape": asdict(dpt_shape_from_state(state))},
            lambda settings: DptHybrid(_shape(DptShape, settings)),
            (
                *(f"pretrained.model.{name}" for name in ("cls_token", "pos_embed", "norm.")),
                *(f"pretrained.model.{name}" for name in ("patch_embed.", "blocks.")),
                "pretrained.act_postprocess",
                "scratch.",
            ),
        ),
    ),
    "autoencoder": (_autoencoder_at("autoencoder", "first_stage_model.", "", "vae_model."),),
    "clip": (_tower_at("visual.", ""),),
}
"""The networks of each kind of checkpoint; see also `LEFT_OUT`."""
