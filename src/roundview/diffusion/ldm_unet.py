"""Stable Diffusion's UNet and what is made of it: Zero123's, MVDream's, ImageDream's."""

from typing import Any

from diffusers.models.attention_processor import Attention
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from jaxtyping import Float, Int
from torch import Tensor, nn

from .attention import AttentionLayers, attend
from .checkpoints.layout import Layout, Part, layout_of
from .checkpoints.unet import UNetShape, unet_parts


class LdmUNet(nn.Module):
    """Predicts from noisy latents, time and tokens; over several views at once, if asked to.

    `UNet2DConditionModel` of diffusers with cross-view attention: with `frames` > 1 self-attention
    goes over all pixels of all views of an object (Shi et al., "MVDream: Multi-view Diffusion for
    3D Generation", 2023, section 3.1), and cameras are embedded and added to the time embedding.
    With `image_tokens` > 0 so many last tokens of the context have keys and values of their own
    (Wang and Shi, "ImageDream: Image-Prompt Multi-view Diffusion for 3D Generation", 2023).
    """

    def __init__(self, shape: UNetShape, *, image_tokens: int = 0) -> None:
        super().__init__()
        self.shape, self.image_tokens = shape, image_tokens
        self.unet = UNet2DConditionModel(**diffusers_config(shape))
        processors: dict[str, nn.Module | ViewAttention] = {}
        for name, attention in _attentions(self.unet):
            if name.endswith("attn1"):
                processors[f"{name}.processor"] = ViewAttention()
            else:
                processors[f"{name}.processor"] = TokenAttention(attention, image_tokens)
        self.unet.set_attn_processor(processors)  # pyright: ignore[reportArgumentType]  any callable

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        t: Float[Tensor, " b"] | Int[Tensor, " b"],
        context: Float[Tensor, "b k d"],
        *,
        vector: Float[Tensor, "b m"] | None = None,
        frames: int = 1,
        image_weight: float = 1.0,
    ) -> Float[Tensor, "b o h w"]:
        """Predict noise, or velocity, as the checkpoint was trained.

        Args:
            x: Latents, and what is laid beside them; views of one object follow one another.
            t: Time step, 0 to 999, of each view.
            context: Tokens to attend to.
            vector: Camera matrices or other numbers of each view, if the network takes some.
            frames: Views an object.
            image_weight: Of the image tokens' share.
        """
        kwargs: dict[str, Any] = {"frames": frames, "image_weight": image_weight}
        return self.unet(
            x, t, context, class_labels=vector, cross_attention_kwargs=kwargs, return_dict=False
        )[0]

    def layout(self) -> Layout:
        """Give the original's name of each tensor, from `input_blocks` on."""
        parts = [
            Part(
                f"unet.{part.ours}",
                part.original,
                (*part.inside, *_IMAGE_KEYS) if ".attentions." in part.ours else part.inside,
                part.flat,
            )
            for part in unet_parts(self.shape)
        ]
        return layout_of(self, parts)


_IMAGE_KEYS = tuple(
    (f"transformer_blocks.{k}.attn2.processor.to_", f"transformer_blocks.{k}.attn2.to_")
    for k in range(10)
)


class ViewAttention:
    """Self-attention over the pixels of all views of an object together."""

    def __call__(
        self,
        attn: AttentionLayers,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        *,
        frames: int = 1,
        image_weight: float = 1.0,
    ) -> Tensor:
        """Attend; called by diffusers with (views, pixels, channels)."""
        del encoder_hidden_states, attention_mask, temb, image_weight
        views, pixels, channels = hidden_states.shape
        together = hidden_states.reshape(views // frames, frames * pixels, channels)
        out = attend(attn, together, attn.to_k(together), attn.to_v(together))
        return attn.to_out[0](out).reshape(views, pixels, channels)


class TokenAttention(nn.Module):
    """Attention to the context's tokens; the last ones, if of an image, by their own keys."""

    def __init__(self, attn: AttentionLayers, image_tokens: int) -> None:
        super().__init__()
        self.image_tokens = image_tokens
        if image_tokens > 0:
            width, inner = attn.to_k.in_features, attn.to_k.out_features
            self.to_k_ip = nn.Linear(width, inner, bias=False)
            self.to_v_ip = nn.Linear(width, inner, bias=False)

    # Not `forward`: diffusers reads the names of the arguments off `__call__`.
    def __call__(
        self,
        attn: AttentionLayers,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        *,
        frames: int = 1,
        image_weight: float = 1.0,
    ) -> Tensor:
        """Attend; called by diffusers with (views, pixels, channels)."""
        del attention_mask, temb, frames
        if encoder_hidden_states is None:
            raise ValueError("this network attends to tokens, but none were given")
        text = encoder_hidden_states[:, : encoder_hidden_states.shape[1] - self.image_tokens]
        out = attend(attn, hidden_states, attn.to_k(text), attn.to_v(text))
        if self.image_tokens > 0:
            image = encoder_hidden_states[:, -self.image_tokens :]
            shown = attend(attn, hidden_states, self.to_k_ip(image), self.to_v_ip(image))
            out = out + image_weight * shown
        return attn.to_out[0](out)


def diffusers_config(shape: UNetShape) -> dict[str, Any]:
    """Give the arguments of `UNet2DConditionModel`."""
    down = ["CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in shape.attends]
    up = ["CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in shape.attends]
    added = shape.camera or shape.vector
    return {
        "in_channels": shape.in_channels,
        "out_channels": shape.out_channels,
        "down_block_types": tuple(down),
        "up_block_types": tuple(reversed(up)),
        "block_out_channels": shape.channels,
        "layers_per_block": shape.res_blocks,
        "cross_attention_dim": shape.context,
        "attention_head_dim": shape.heads,  # diffusers' old name for the number of heads.
        "use_linear_projection": shape.linear,
        "transformer_layers_per_block": shape.depth,
        "class_embed_type": "projection" if added else None,
        "projection_class_embeddings_input_dim": added or None,
    }


def _attentions(unet: nn.Module) -> list[tuple[str, Attention]]:
    return [
        (name, module) for name, module in unet.named_modules() if isinstance(module, Attention)
    ]
