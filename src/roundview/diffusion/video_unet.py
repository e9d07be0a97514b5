"""Stable Video Diffusion's UNet and what is made of it: SV3D's, Hi3D's two stages."""

from typing import Any

import torch
from diffusers.models.resnet import ResnetBlock2D, TemporalResnetBlock
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
from jaxtyping import Float
from torch import Tensor, nn

from .checkpoints.layout import Layout, Part, layout_of
from .checkpoints.unet import UNetShape, unet_parts


class VideoUNet(nn.Module):
    """Predicts from the noisy latents of a whole clip.

    `UNetSpatioTemporalConditionModel` of diffusers, but for two things in which the original
    (Blattmann et al., "Stable Video Diffusion", 2023) differs: the normalisations' epsilons are the
    original's, and the vector beside the time embedding is given as it is, for SV3D's and Hi3D's
    conditions are not three numbers.
    """

    def __init__(self, shape: UNetShape) -> None:
        super().__init__()
        self.shape = shape
        self.unet = UNetSpatioTemporalConditionModel(**diffusers_config(shape))
        for module in self.unet.modules():
            if isinstance(module, ResnetBlock2D | TemporalResnetBlock):
                # diffusers has 1e-6 in some blocks, the original 1e-5 in all.
                module.norm1.eps = module.norm2.eps = 1e-5

    def forward(
        self,
        x: Float[Tensor, "b t c h w"],
        c_noise: Float[Tensor, " b"],
        context: Float[Tensor, "b k d"],
        vector: Float[Tensor, "b m"] | Float[Tensor, "b t m"],
        *,
        still: bool = False,
    ) -> Float[Tensor, "b t o h w"]:
        """Predict the velocity of every frame.

        Args:
            x: Scaled noisy latents of b clips of t frames, and what is laid beside them.
            c_noise: 0.25 ln(sigma) of each clip.
            context: Image embedding of each clip.
            vector: Sinusoidal embeddings of the clip's or of each frame's numbers.
            still: Treat the frames as pictures of their own: no temporal layer counts.
        """
        unet, (b, t) = self.unet, x.shape[:2]
        per_frame = vector if vector.ndim == 3 else vector[:, None].expand(b, t, -1)
        time = unet.time_embedding(unet.time_proj(c_noise).to(x))
        added = unet.add_embedding(per_frame.flatten(0, 1).to(x))
        emb = time.repeat_interleave(t, dim=0) + added
        tokens = context.repeat_interleave(t, dim=0)
        image_only = torch.full((b, t), float(still)).to(x)
        hidden = unet.conv_in(x.flatten(0, 1))
        known: dict[str, Any] = {"temb": emb, "image_only_indicator": image_only}
        skips = [hidden]
        for block in unet.down_blocks:
            hidden, more = block(hidden, **known, **_tokens(block, tokens))
            skips += more
        hidden = unet.mid_block(hidden, **known, encoder_hidden_states=tokens)
        for block in unet.up_blocks:
            count = len(block.resnets)  # pyright: ignore[reportArgumentType]  a module list
            taken, skips = tuple(skips[-count:]), skips[:-count]
            hidden = block(hidden, res_hidden_states_tuple=taken, **known, **_tokens(block, tokens))
        out = unet.conv_out(unet.conv_act(unet.conv_norm_out(hidden)))
        return out.unflatten(0, (b, t))

    def layout(self) -> Layout:
        """Give the original's name of each tensor, from `input_blocks` on."""
        parts = unet_parts(self.shape, video=True)
        return layout_of(self, [Part(f"unet.{p.ours}", p.original, p.inside) for p in parts])


def diffusers_config(shape: UNetShape) -> dict[str, Any]:
    """Give the arguments of `UNetSpatioTemporalConditionModel`.

    Raises:
        ValueError: If the shape is not a video network's.
    """
    if shape.vector < 1 or not shape.linear:
        raise ValueError("a video UNet has a vector beside the time and linear transformer ends")
    kind = ["CrossAttn" if attends else "" for attends in shape.attends]
    return {
        "in_channels": shape.in_channels,
        "out_channels": shape.out_channels,
        "down_block_types": tuple(f"{k}DownBlockSpatioTemporal" for k in kind),
        "up_block_types": tuple(f"{k}UpBlockSpatioTemporal" for k in reversed(kind)),
        "block_out_channels": shape.channels,
        # Only for diffusers' own way of making the vector, which is not used here.
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": shape.vector,
        "layers_per_block": shape.res_blocks,
        "cross_attention_dim": shape.context,
        "transformer_layers_per_block": shape.depth,
        "num_attention_heads": shape.heads,
    }


def sinusoids(values: Float[Tensor, "b s"], width: int) -> Float[Tensor, "b m"]:
    """Embed numbers as cosines and sines of falling frequency, side by side.

    Args:
        values: s numbers a sample, as they are: frames a second, degrees, a noise level.
        width: Length of the embedding of one number; an odd one ends with a zero.
    """
    half = width // 2
    exponent = torch.arange(half, dtype=torch.float32).to(values) / half
    angle = values[..., None].float() * torch.exp(-exponent * torch.log(torch.tensor(10000.0)))
    parts = [angle.cos(), angle.sin()]
    if width % 2:
        parts.append(torch.zeros_like(angle[..., :1]))
    return torch.cat(parts, dim=-1).flatten(1)


def _tokens(block: nn.Module, tokens: Tensor) -> dict[str, Tensor]:
    attends = getattr(block, "has_cross_attention", False)
    return {"encoder_hidden_states": tokens} if attends else {}
