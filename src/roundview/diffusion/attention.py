"""Self-attention that remembers one picture and shows it to another.

Cao et al., "MasaCtrl: Tuning-Free Mutual Self-Attention Control for Consistent Image Synthesis and
Editing", 2023, as HiFi-123 (Yu et al., "HiFi-123: Towards High-fidelity One Image to 3D Content
Generation", 2024) uses it: while one picture is drawn, the keys and values of its self-attention
are those of another at the same step, so that its texture comes from there.
"""

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from diffusers.models.attention_processor import Attention
from jaxtyping import Float
from torch import Tensor, nn

AttentionLayers: TypeAlias = Any
"""diffusers' `Attention`, which declares as maybe absent the layers that are always there here."""


@dataclass
class Memory:
    """What the self-attention of a picture was shown at one step.

    Kept are not keys and values but what the layer makes both of, which is half as much.

    Attributes:
        first_layer: Layers below are not remembered.
        held: By layer, in the order in which a network asks them: "rows pixels channels", one row
            for each half of classifier-free guidance, or one for both where they are the same.
    """

    first_layer: int = 0
    held: dict[int, Tensor] = field(default_factory=dict)


@dataclass
class _Turn:
    """What the present call of a network is to write to and to read from."""

    record: Memory | None = None
    borrow: Memory | None = None


class SharingAttention:
    """Self-attention that writes to a memory or takes its keys and values from one."""

    def __init__(self, layer: int, turn: _Turn) -> None:
        self.layer, self.turn = layer, turn

    def __call__(
        self,
        attn: AttentionLayers,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """Attend; called by diffusers with (samples, pixels, channels)."""
        del encoder_hidden_states, attention_mask, temb
        record, borrow = self.turn.record, self.turn.borrow
        shown = hidden_states
        if borrow is not None and self.layer in borrow.held:
            lent = borrow.held[self.layer].to(hidden_states)
            shown = lent.repeat_interleave(len(hidden_states) // len(lent), dim=0)
        if record is not None and self.layer >= record.first_layer:
            record.held[self.layer] = hidden_states.detach()
        out = attend(attn, hidden_states, attn.to_k(shown), attn.to_v(shown))
        return attn.to_out[0](out)


class Sharing:
    """Gives a UNet of diffusers self-attention that can remember and borrow.

    Only the self-attention (`attn1`) is exchanged; weights and all else stay as they are.
    """

    def __init__(self, unet: nn.Module) -> None:
        """Exchange the processors.

        Raises:
            ValueError: If the network has no self-attention.
        """
        self._turn = _Turn()
        layers = self_attentions(unet)
        if not layers:
            raise ValueError("this network has no self-attention to share")
        for at, layer in enumerate(layers):
            layer.set_processor(SharingAttention(at, self._turn))  # pyright: ignore[reportArgumentType]  any callable
        self.layers = len(layers)

    def begin(self, record: Memory | None, borrow: Memory | None) -> None:
        """Say what the next call of the network writes to and reads from."""
        self._turn.record, self._turn.borrow = record, borrow


def self_attentions(unet: nn.Module) -> list[Attention]:
    """Give the self-attention layers in the order in which the network asks them: 16 in SD's."""
    named = [
        (name, module)
        for name, module in unet.named_modules()
        if isinstance(module, Attention) and name.endswith("attn1")
    ]
    # The middle was registered last, though it is asked before the way up. Sorting is stable.
    return [m for _, m in sorted(named, key=lambda part: _stage(part[0]))]


def attend(
    attn: AttentionLayers,
    queries: Float[Tensor, "b q c"],
    keys: Float[Tensor, "b k d"],
    values: Float[Tensor, "b k d"],
) -> Float[Tensor, "b q d"]:
    """Attend in a layer's heads; keys and values are projected already, queries are not."""
    q, k, v = (
        part.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
        for part in (attn.to_q(queries), keys, values)
    )
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    return out.transpose(1, 2).flatten(2)


def _stage(name: str) -> int:
    return next((k for k, part in enumerate(("down_blocks", "mid_block")) if part in name), 2)
