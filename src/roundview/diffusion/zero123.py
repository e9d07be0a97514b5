"""Zero123: one view from another and the camera's way between them.

Liu et al., "Zero-1-to-3: Zero-shot One Image to 3D Object", 2023; with several tokens it is the
refiner of Chen et al., "Cascade-Zero123: One Image to Highly Consistent 3D with Self-Prompted
Nearby Views", 2024.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from .checkpoints.layout import Layout
from .checkpoints.unet import UNetShape
from .ldm_unet import LdmUNet


class Zero123Net(nn.Module):
    """Predicts the noise of a view from the latents of another, its embedding, and poses.

    The original's quirks are kept: the latents laid beside the noisy ones are not scaled by
    0.18215, and without guidance's condition the token is zero after the projection, not before it.
    """

    def __init__(self, shape: UNetShape) -> None:
        super().__init__()
        self.unet = LdmUNet(shape)
        self.cc_projection = nn.Linear(shape.context + 4, shape.context)

    def tokens(
        self, embedding: Float[Tensor, "b k d"], pose: Float[Tensor, "b k 4"]
    ) -> Float[Tensor, "b k d"]:
        """Turn views' embeddings and the ways from them to the target into tokens.

        Args:
            embedding: CLIP's of each view that is known, not normalised.
            pose: See `frames.zero123_from_cameras`.
        """
        return self.cc_projection(torch.cat([embedding, pose], dim=-1))

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        t: Int[Tensor, " b"],
        beside: Float[Tensor, "b c h w"],
        tokens: Float[Tensor, "b k d"],
    ) -> Float[Tensor, "b c h w"]:
        """Predict noise.

        Args:
            x: Noisy latents of the view to draw.
            t: Training step, 0 to 999.
            beside: Latents of the view that is known, not scaled.
            tokens: From `tokens`; zeros for none.
        """
        return self.unet(torch.cat([x, beside], dim=1), t, tokens)

    def guided(
        self,
        x: Float[Tensor, "b c h w"],
        t: Int[Tensor, " b"],
        beside: Float[Tensor, "b c h w"],
        tokens: Float[Tensor, "b k d"],
        *,
        scale: float,
    ) -> Float[Tensor, "b c h w"]:
        """Predict noise, pushed away from what it would be without the known view.

        Ho and Salimans, "Classifier-Free Diffusion Guidance", 2022: eps_0 + scale (eps - eps_0).
        """
        both = self.forward(
            torch.cat([x, x]),
            torch.cat([t, t]),
            torch.cat([torch.zeros_like(beside), beside]),
            torch.cat([torch.zeros_like(tokens), tokens]),
        )
        without, with_view = both.chunk(2)
        return without + scale * (with_view - without)

    def layout(self) -> Layout:
        """Give the original's name of each tensor, from `model.diffusion_model` on."""
        inner = self.unet.layout()
        names = {
            f"unet.{ours}": f"model.diffusion_model.{original}"
            for ours, original in inner.names.items()
        }
        names |= {f"cc_projection.{kind}": f"cc_projection.{kind}" for kind in ("weight", "bias")}
        return Layout(names, frozenset(f"unet.{ours}" for ours in inner.flat))


def pose_from_degrees(pose_deg: Float[Tensor, "b 3"]) -> Float[Tensor, "b 4"]:
    """Give the pose vector of a way told as in Zero123's demo.

    Args:
        pose_deg: Degrees of polar angle (up is negative), degrees of azimuth, and distance.
    """
    polar, azimuth = torch.deg2rad(pose_deg[:, :2]).unbind(-1)
    return torch.stack([polar, azimuth.sin(), azimuth.cos(), pose_deg[:, 2]], dim=-1)
