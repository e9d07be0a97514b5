"""Checkpoints as folders of diffusers: which component holds which tensor, and under which name.

Our networks are modules of diffusers, so their names are the folders' but for a prefix; CLIP's
towers are told in `transformers_clip`. What no component has a place for (a second encoder, the
tokens of a picture) lies beside them in a file of its own, see `roundview.loaders.folders`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor, nn

from ..clip import ClipTower
from ..clip_text import ClipText
from ..dpt import DptHybrid
from ..imagedream import ImageDreamUNet
from ..ldm_autoencoder import LdmAutoencoder
from ..ldm_unet import LdmUNet
from ..video_unet import VideoUNet
from ..zero123 import Zero123Net
from .autoencoder import AutoencoderShape
from .dpt import dpt_config, dpt_shape
from .families import FirstStage, Settings, family, layout_of_network
from .layout import must_agree
from .transformers_clip import (
    Joined,
    text_config,
    text_names,
    text_shape,
    tower_config,
    tower_names,
    tower_shape,
)
from .unet import UNetShape

_CAMERA = ("mvdream", "isotropic3d", "imagedream")
_UNTOLD = {"_class_name", "_diffusers_version", "_name_or_path", "_use_default_values"}
_NO_MATTER = _UNTOLD | {
    *("sample_size", "num_frames", "upcast_attention", "force_upcast", "addition_time_embed_dim"),
    *("backbone_config", "layer_norm_eps"),
}
"""Entries of configurations that change nothing here: sizes of pictures, precision, what is done
outside of the networks, what is compared otherwise, and an epsilon of which two are in use."""
_OTHER_TOWER = ("text_model.", "text_projection.", "logit_scale")
_OLD_ATTENTION = (
    (".query.", ".to_q."),
    (".key.", ".to_k."),
    (".value.", ".to_v."),
    (".proj_attn.", ".to_out.0."),
)


@dataclass(frozen=True)
class Component:
    """One folder of a pipeline, and what it holds of our networks.

    Attributes:
        folder: Its name.
        library: diffusers or transformers, whose class it is.
        kind: The class.
        config: Its configuration.
        names: Our names, the network's before them, to the folder's.
        joined: The same for tensors that are several in the folder, or turned there.
    """

    folder: str
    library: str
    kind: str
    config: Mapping[str, Any]
    names: Mapping[str, str]
    joined: tuple[Joined, ...] = ()

    def to_ours(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename a folder's tensors.

        Raises:
            ValueError: If one is missing or there is one too many; the message names them.
        """
        theirs = [*self.names.values(), *(name for each in self.joined for name in each.theirs)]
        must_agree(state, theirs, f"{self.folder}/")
        ours = {name: state[there] for name, there in self.names.items()}
        return ours | {
            each.ours: each.join([state[n] for n in each.theirs]) for each in self.joined
        }

    def to_theirs(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Take what the folder holds out of all tensors, in the folder's names."""
        theirs = {there: state[name] for name, there in self.names.items()}
        for each in self.joined:
            theirs |= zip(each.theirs, each.part(state[each.ours]), strict=True)
        return theirs

    @property
    def ours(self) -> set[str]:
        """Our names of what it holds."""
        return {*self.names, *(each.ours for each in self.joined)}


def components_of(networks: Mapping[str, nn.Module]) -> list[Component]:
    """Say which folders hold a checkpoint's networks, and which tensors."""
    return [
        component
        for name, network in networks.items()
        for component in _components_of(name, network, networks)
    ]


def _components_of(
    name: str, network: nn.Module, networks: Mapping[str, nn.Module]
) -> list[Component]:
    if isinstance(network, Zero123Net):
        return [_unet(network.unet, f"{name}.unet."), _projection(network, f"{name}.")]
    if isinstance(network, LdmUNet | VideoUNet):
        return [_unet(network, f"{name}.")]
    if isinstance(network, ImageDreamUNet):
        return [_unet(network.views, f"{name}.views.")]
    if isinstance(network, FirstStage):
        return [_clips(network, networks.get("condition_encoder"))]
    if isinstance(network, ClipTower | ClipText):
        return [_tower(network, f"{name}.")]
    if isinstance(network, DptHybrid):
        names = {f"{name}.net.{inner}": inner for inner in network.net.state_dict()}
        told = dpt_config(network.shape)
        return [Component("depth_estimator", "transformers", "DPTForDepthEstimation", told, names)]
    # With a decoder of clips the encoder is told together with it.
    if isinstance(network, LdmAutoencoder) and not (
        name == "condition_encoder" and _has_clips(networks)
    ):
        return [_pictures(network, name)]
    return []


def sizes_in_folder(
    kind: str, configs: Mapping[str, Mapping[str, Any]], known: Mapping[str, Settings]
) -> dict[str, Settings]:
    """Read the sizes of a family's networks off the configurations of a folder.

    Args:
        kind: One of `FAMILIES`.
        configs: By component.
        known: Of networks whose sizes are known otherwise.

    Raises:
        ValueError: If a component is missing, or is of another kind than the family's.
    """
    sizes: dict[str, Settings] = {}
    for part in family(kind):
        if part.name in known:
            sizes[part.name] = known[part.name]
            continue
        folder = FOLDERS[part.name]
        if folder not in configs:
            if part.optional:
                continue
            raise ValueError(f"this is no {kind} checkpoint: it lacks the folder {folder}/")
        told = _read_sizes(kind, part.name, configs[folder])
        sizes[part.name] = {**told, "prefix": part.prefixes[0]}
    return sizes


def in_original_names(network: nn.Module, name: str) -> Component:
    """Say what a folder holds whose class keeps the original's names: MVDream's port for diffusers.

    Its class is `MultiViewUNetModel` of ashawkey's mvdream_diffusers.
    """
    names = layout_of_network(network).names
    ours = {f"{name}.{inner}": there for inner, there in names.items()}
    return Component("unet", "mvdream", "MultiViewUNetModel", {}, ours)


def must_be_told(component: Component, config: Mapping[str, Any]) -> None:
    """Refuse a component whose configuration asks for what our network does not do.

    Raises:
        ValueError: If an entry differs; the message names it.
    """
    for key, ours in component.config.items():
        if key in _NO_MATTER or key not in config:
            continue
        theirs = config[key]
        if _plain(theirs, ours) != _plain(ours, theirs):
            raise ValueError(
                f"{component.folder}/config.json: {key} is {theirs!r}; only {_plain(ours)!r} is "
                "supported"
            )


def renamed(component: Component, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring a folder's tensors from older versions' names to those of today."""
    if component.library == "transformers":
        rest = {n: t for n, t in state.items() if not n.endswith(".position_ids")}
        if component.folder == "depth_estimator":
            return rest
        begin = "text_model." if component.folder == "text_encoder" else "vision_model."
        if component.folder == "image_encoder":  # Of CLIP's two towers, this one.
            rest = {n: t for n, t in rest.items() if not n.startswith(_OTHER_TOWER)}
        if any(name.startswith(begin) for name in rest):
            return rest
        # transformers 5 leaves the beginning out where there is no projection.
        return {n if "projection" in n else begin + n: t for n, t in rest.items()}
    if component.folder in PROJECTIONS:
        return {f"projection.{n.rpartition('.')[2]}": t for n, t in state.items()}
    out: dict[str, Tensor] = {}
    for name, tensor in state.items():
        for old, new in _OLD_ATTENTION if ".attentions." in name else ():
            name = name.replace(old, new)  # noqa: PLW2901  each in turn
        out[name] = tensor
    return out


FOLDERS = {
    "net": "unet",
    "unet": "unet",
    "autoencoder": "vae",
    "first_stage": "vae",
    "image_tower": "image_encoder",
    "text_tower": "text_encoder",
    "condition_encoder": "condition_encoder",
    "depth_estimator": "depth_estimator",
}
"""Of each network of a family."""
REST = "roundview.safetensors"
"""Holds what diffusers has no place for, in our names; its metadata, the networks' sizes."""
PROJECTIONS = ("cc_projection", "clip_camera_projection")
"""Folders of Zero123's projection, in two ports."""


def _read_sizes(kind: str, name: str, config: Mapping[str, Any]) -> Settings:
    try:
        if name == "image_tower":
            return {"shape": asdict(tower_shape(config))}
        if name == "text_tower":
            return {"shape": asdict(text_shape(config))}
        if name == "depth_estimator":
            return {"shape": asdict(dpt_shape(config))}
        if name in ("net", "unet"):
            return _unet_sizes(kind, config)
        channels = tuple(int(c) for c in config["block_out_channels"])
        clips = "TemporalDecoder" in str(config.get("_class_name"))
        shape = AutoencoderShape(
            width=channels[0],
            widths=tuple(c // channels[0] for c in channels),
            res_blocks=int(config.get("layers_per_block", 1)),
            latent=int(config.get("latent_channels", 4)),
            picture=int(config.get("out_channels", 3)),
        )
        told = {"shape": asdict(shape), "quant": bool(config.get("use_quant_conv", True))}
        return {**told, "video": clips} if name == "first_stage" else told
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ValueError(f"{FOLDERS[name]}/config.json is not as diffusers': {error}") from error


def _unet_sizes(kind: str, config: Mapping[str, Any]) -> Settings:
    video = "SpatioTemporal" in str(config.get("_class_name"))
    channels = tuple(int(c) for c in config["block_out_channels"])
    told = config.get("num_attention_heads") or config["attention_head_dim"]
    vector = int(config.get("projection_class_embeddings_input_dim") or 0)
    shape = UNetShape(
        in_channels=int(config["in_channels"]),
        out_channels=int(config["out_channels"]),
        width=channels[0],
        widths=tuple(c // channels[0] for c in channels),
        res_blocks=_one(config["layers_per_block"]),
        attends=tuple(str(block).startswith("CrossAttn") for block in config["down_block_types"]),
        # diffusers has long called the number of heads `attention_head_dim`.
        heads=tuple(told) if isinstance(told, list | tuple) else (int(told),) * len(channels),
        context=_one(config["cross_attention_dim"]),
        linear=video or bool(config.get("use_linear_projection", False)),
        depth=_one(config.get("transformer_layers_per_block", 1)),
        vector=0 if kind in _CAMERA else vector,
        camera=vector if kind in _CAMERA else 0,
    )
    return {"shape": asdict(shape)}


def _unet(network: LdmUNet | VideoUNet, prefix: str) -> Component:
    names = {
        f"{prefix}unet.{name}": name
        for name in network.unet.state_dict()
        # The tokens of a picture are ImageDream's; diffusers' class has none.
        if ".processor." not in name
    }
    return Component("unet", "diffusers", type(network.unet).__name__, _config(network.unet), names)


def _projection(network: Zero123Net, prefix: str) -> Component:
    linear = network.cc_projection
    names = {f"{prefix}cc_projection.{k}": f"projection.{k}" for k in ("weight", "bias")}
    config = {"in_channel": linear.in_features, "out_channel": linear.out_features}
    return Component("cc_projection", "zero123", "CCProjection", config, names)


def _pictures(network: LdmAutoencoder, name: str) -> Component:
    names = {f"{name}.net.{inner}": inner for inner in network.net.state_dict()}
    return Component(FOLDERS[name], "diffusers", "AutoencoderKL", _config(network.net), names)


def _clips(stage: FirstStage, condition: nn.Module | None) -> Component:
    """Say what `AutoencoderKLTemporalDecoder` holds: the encoder that the UNet was trained with."""
    encoder, of = stage.pictures, "first_stage.pictures"
    if isinstance(condition, LdmAutoencoder):
        encoder, of = condition, "condition_encoder"
    if encoder.net.quant_conv is None:
        raise ValueError(
            "diffusers' autoencoder of clips ends its encoder with quant_conv, which only the "
            "condition's encoder has; import the whole checkpoint"
        )
    names = {
        f"{of}.net.{name}": name
        for name in encoder.net.state_dict()
        if name.startswith(("encoder.", "quant_conv."))
    }
    names |= {f"first_stage.clips.{name}": name for name in stage.clips.state_dict()}
    shape = stage.clips.shape
    config = {
        "in_channels": shape.picture,
        "out_channels": shape.picture,
        "down_block_types": ["DownEncoderBlock2D"] * len(shape.widths),
        "block_out_channels": list(shape.channels),
        "layers_per_block": shape.res_blocks,
        "latent_channels": shape.latent,
        "sample_size": 768,
        "scaling_factor": 0.18215,
        "force_upcast": True,
    }
    return Component("vae", "diffusers", "AutoencoderKLTemporalDecoder", config, names)


def _tower(tower: ClipTower | ClipText, prefix: str) -> Component:
    if isinstance(tower, ClipText):
        folder, kind = "text_encoder", "CLIPTextModel"
        config, (names, joined) = text_config(tower.shape), text_names(tower)
    else:
        folder = "image_encoder"
        kind = "CLIPVisionModelWithProjection" if tower.shape.out else "CLIPVisionModel"
        config, (names, joined) = tower_config(tower.shape), tower_names(tower)
    return Component(
        folder,
        "transformers",
        kind,
        config,
        {prefix + ours: there for ours, there in names.items()},
        tuple(replace(each, ours=prefix + each.ours) for each in joined),
    )


def _has_clips(networks: Mapping[str, nn.Module]) -> bool:
    return any(isinstance(network, FirstStage) for network in networks.values())


def _config(module: Any) -> dict[str, Any]:  # noqa: ANN401  any model of diffusers
    told = dict(module.config)
    return {key: _plain(value) for key, value in told.items() if key not in _UNTOLD}


def _plain(value: Any, like: Any = None) -> Any:  # noqa: ANN401  what JSON holds
    """Turn tuples into lists, and one number for all levels into one a level if `like` is so."""
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(like, list | tuple) and isinstance(value, int | float):
        return [value] * len(like)
    return value


def _one(value: Any) -> int:  # noqa: ANN401  configurations hold numbers or lists of them
    numbers = set(value) if isinstance(value, list | tuple) else {value}
    if len(numbers) != 1:
        raise ValueError(f"levels of different kinds: {value}")
    return int(numbers.pop())
