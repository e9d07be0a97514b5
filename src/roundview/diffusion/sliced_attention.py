"""Attention a part of its queries at a time: less memory where a device has no fused kernel."""

from typing import Any

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor, nn

ROWS = 1024
"""Queries at a time; 1024 x 16384 weights of a 1024 px picture's latents are 32 MB in half
precision. Chosen by us."""


def slice_attention(network: nn.Module, *, rows: int = ROWS) -> int:
    """Let a network's attention layers work in slices; give how many do now.

    Only layers with diffusers' own attention change: those of video networks and of autoencoders.
    The results are the same but for rounding.
    """
    plain = [
        module
        for module in network.modules()
        if isinstance(module, Attention) and isinstance(module.processor, AttnProcessor2_0)
    ]
    for layer in plain:
        layer.set_processor(SlicedAttention(rows))  # pyright: ignore[reportArgumentType]  any callable
    return len(plain)


class SlicedAttention:
    """Does what diffusers' `AttnProcessor2_0` does, one sample and `rows` queries at a time."""

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def __call__(
        self,
        attn: Any,  # noqa: ANN401  diffusers declares its layers as maybe absent
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """Attend; called by diffusers with (samples, pixels, channels), or with pictures.

        Raises:
            ValueError: If a mask is given, which no network here has.
        """
        if attention_mask is not None or attn.norm_cross or attn.spatial_norm is not None:
            raise ValueError("attention in slices knows neither masks nor other normalisations")
        del temb
        x = hidden_states.flatten(2).mT if hidden_states.ndim == 4 else hidden_states
        if attn.group_norm is not None:
            x = attn.group_norm(x.mT).mT
        known = x if encoder_hidden_states is None else encoder_hidden_states
        q, k, v = (
            part.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for part in (attn.to_q(x), attn.to_k(known), attn.to_v(known))
        )
        out = torch.empty_like(q)
        for sample in range(len(q)):
            one = slice(sample, sample + 1)
            for start in range(0, q.shape[2], self.rows):
                some = slice(start, start + self.rows)
                out[one, :, some] = torch.nn.functional.scaled_dot_product_attention(
                    q[one, :, some], k[one], v[one]
                )
        y = attn.to_out[1](attn.to_out[0](out.transpose(1, 2).flatten(2)))
        if hidden_states.ndim == 4:
            y = y.mT.reshape(hidden_states.shape)
        if attn.residual_connection:
            y = y + hidden_states
        return y / attn.rescale_output_factor
