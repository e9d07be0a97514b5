"""Stable Diffusion's autoencoder and Stable Video Diffusion's decoder, in the original layout."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .layout import Part

_RES = (("conv_shortcut.", "nin_shortcut."),)
_ATTENTION = (
    ("group_norm.", "norm."),
    ("to_q.", "q."),
    ("to_k.", "k."),
    ("to_v.", "v."),
    ("to_out.0.", "proj_out."),
)
_LINEAR = ("to_q.", "to_k.", "to_v.", "to_out.0.")
_TEMPORAL = (
    ("spatial_res_block.conv_shortcut.", "nin_shortcut."),
    ("spatial_res_block.", ""),
    ("temporal_res_block.norm1.", "time_stack.in_layers.0."),
    ("temporal_res_block.conv1.", "time_stack.in_layers.2."),
    ("temporal_res_block.norm2.", "time_stack.out_layers.0."),
    ("temporal_res_block.conv2.", "time_stack.out_layers.3."),
    ("time_mixer.", ""),
)


@dataclass(frozen=True)
class AutoencoderShape:
    """What the original's configuration says of an autoencoder.

    Attributes:
        width: Channels of the first level.
        widths: Factor of each level.
        res_blocks: Residual blocks a level of the encoder; the decoder has one more.
        latent: Channels of the latents.
        picture: Channels of the pictures.
    """

    width: int = 128
    widths: tuple[int, ...] = (1, 2, 4, 4)
    res_blocks: int = 2
    latent: int = 4
    picture: int = 3

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each level."""
        return tuple(self.width * factor for factor in self.widths)


def autoencoder_shape_from_config(config: Mapping[str, Any]) -> AutoencoderShape:
    """Read the original's `ddconfig`.

    Raises:
        ValueError: If a value is missing, or asks for attention outside the middle.
    """
    if config.get("attn_resolutions"):
        raise ValueError("autoencoders with attention outside the middle are not supported")
    try:
        return AutoencoderShape(
            width=int(config["ch"]),
            widths=tuple(config["ch_mult"]),
            res_blocks=int(config["num_res_blocks"]),
            latent=int(config["z_channels"]),
            picture=int(config["out_ch"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"the autoencoder's configuration lacks {error}") from error


def autoencoder_shape_from_state(state: Mapping[str, Tensor]) -> AutoencoderShape:
    """Read an autoencoder's shape off its decoder's tensors.

    Args:
        state: With names as the original has them, from `decoder` on.

    Raises:
        ValueError: If this is no such autoencoder.
    """
    try:
        levels = 1 + max(int(n.split(".")[2]) for n in state if n.startswith("decoder.up."))
        channels = [state[f"decoder.up.{i}.block.0.conv2.weight"].shape[0] for i in range(levels)]
        blocks = 1 + max(int(n.split(".")[4]) for n in state if n.startswith("decoder.up.0.block."))
        first, last = state["decoder.conv_in.weight"], state["decoder.conv_out.weight"]
    except (KeyError, ValueError, IndexError) as error:
        raise ValueError(f"this is no autoencoder in the LDM layout: it lacks {error}") from error
    width = int(channels[0])
    return AutoencoderShape(
        width=width,
        widths=tuple(int(c) // width for c in channels),
        res_blocks=blocks - 1,
        latent=int(first.shape[1]),
        picture=int(last.shape[0]),
    )


def encoder_parts(shape: AutoencoderShape, prefix: str = "encoder.") -> list[Part]:
    """Say where each module of diffusers' encoder is in the original."""
    parts = [*_ends(prefix), *_middle(prefix, _RES)]
    for level in range(len(shape.widths)):
        here, there = f"{prefix}down_blocks.{level}.", f"{prefix}down.{level}."
        parts += [
            Part(f"{here}resnets.{k}.", f"{there}block.{k}.", _RES) for k in range(shape.res_blocks)
        ]
        parts.append(Part(f"{here}downsamplers.0.", f"{there}downsample."))
    return parts


def decoder_parts(
    shape: AutoencoderShape, prefix: str = "decoder.", *, video: bool = False
) -> list[Part]:
    """Say where each module of diffusers' decoder is in the original, which counts upwards."""
    res = _TEMPORAL if video else _RES
    parts = [*_ends(prefix), *_middle(prefix, res)]
    parts.append(Part(f"{prefix}time_conv_out.", f"{prefix}conv_out.time_mix_conv."))
    for level in range(len(shape.widths)):
        here = f"{prefix}up_blocks.{len(shape.widths) - 1 - level}."
        there = f"{prefix}up.{level}."
        parts += [
            Part(f"{here}resnets.{k}.", f"{there}block.{k}.", res)
            for k in range(shape.res_blocks + 1)
        ]
        parts.append(Part(f"{here}upsamplers.0.", f"{there}upsample."))
    return parts


def quantisation_parts() -> list[Part]:
    """Say where the 1x1 convolutions between encoder, latents and decoder are: the same names."""
    return [Part(name, name) for name in ("quant_conv.", "post_quant_conv.")]


def _ends(prefix: str) -> list[Part]:
    return [
        Part(f"{prefix}conv_in.", f"{prefix}conv_in."),
        Part(f"{prefix}conv_norm_out.", f"{prefix}norm_out."),
        Part(f"{prefix}conv_out.", f"{prefix}conv_out."),
    ]


def _middle(prefix: str, res: tuple[tuple[str, str], ...]) -> list[Part]:
    here, there = f"{prefix}mid_block.", f"{prefix}mid."
    return [
        Part(f"{here}resnets.0.", f"{there}block_1.", res),
        Part(f"{here}attentions.0.", f"{there}attn_1.", _ATTENTION, flat=_LINEAR),
        Part(f"{here}resnets.1.", f"{there}block_2.", res),
    ]
