"""DPT-hybrid: a transformer behind convolutions that estimates how near each pixel is.

Ranftl et al., "Vision Transformers for Dense Prediction", 2021, as MiDaS 3.0 (Ranftl et al.,
"Towards Robust Monocular Depth Estimation", 2022) was trained: inverse depth up to scale and shift.
"""

from collections.abc import Mapping

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from ..models import DepthModel
from .checkpoints.dpt import DptShape, dpt_config, dpt_layout
from .checkpoints.layout import Layout


class DptHybrid(nn.Module):
    """`DPTForDepthEstimation` of transformers, which is asked for here only."""

    def __init__(self, shape: DptShape = DptShape()) -> None:  # noqa: B008  frozen
        """Build it.

        Raises:
            ImportError: If transformers is not installed.
        """
        super().__init__()
        try:
            from transformers import (  # noqa: PLC0415  no other network needs it
                DPTConfig,
                DPTForDepthEstimation,
            )
        except ImportError as error:
            raise ImportError("DPT-hybrid needs `pip install transformers`") from error
        self.shape = shape
        self.net = DPTForDepthEstimation(DPTConfig(**dpt_config(shape)))

    def forward(self, picture: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h w"]:
        """Give inverse depth of pictures in [-1, 1] of the shape's side; 0 is as far as any."""
        return self.net(picture).predicted_depth

    def layout(self) -> Layout:
        """Give MiDaS' name of each tensor."""
        return dpt_layout(self.state_dict(), before="net.")


class DptDepth:
    """A `DepthModel`: inverse depth by DPT-hybrid, normals by another, which MiDaS does not give.

    Pictures are brought to the network's side and maps back to theirs by cubic interpolation, as
    HiFi-123's program does. The nearest point of each picture is 1: MiDaS' unit means nothing.

    Args:
        network: Of a public checkpoint.
        normals: Whose normals are given.
    """

    def __init__(self, network: DptHybrid, normals: DepthModel) -> None:
        self.network = network.eval().requires_grad_(False)
        self.normals = normals

    @torch.no_grad()
    def __call__(
        self, rgb: Float[Tensor, "n h w 3"]
    ) -> tuple[Float[Tensor, "n h w"], Float[Tensor, "n h w 3"]]:
        """Give inverse depth, near is large, and normals; see `DepthModel`."""
        at, side = next(self.network.parameters()), self.network.shape.side
        size = (int(rgb.shape[1]), int(rgb.shape[2]))
        maps: list[Tensor] = []
        for each in rearrange(rgb, "n h w c -> n 1 c h w").float():
            small = torch.nn.functional.interpolate(
                each, (side, side), mode="bicubic", antialias=True
            )
            inverse = self.network((small.clamp(0, 1) * 2 - 1).to(at))[None].float()
            maps.append(torch.nn.functional.interpolate(inverse, size, mode="bicubic")[0, 0])
        found = torch.stack(maps).clamp(min=0).to(rgb)
        return found / found.amax(dim=(1, 2), keepdim=True).clamp(min=1e-6), self.normals(rgb)[1]


def dpt_shape_from_state(state: Mapping[str, Tensor]) -> DptShape:
    """Read the sizes off tensors named as in MiDaS.

    Heads are of 64 channels, and tokens are taken after each quarter of the blocks: the tensors do
    not tell.

    Raises:
        ValueError: If this is no DPT-hybrid.
    """
    trunk = "pretrained.model."
    stage = f"{trunk}patch_embed.backbone.stages."
    try:
        _, cells, width = state[f"{trunk}pos_embed"].shape
        layers = _count(state, f"{trunk}blocks.")
        inner = state[f"{trunk}blocks.0.mlp.fc1.weight"].shape[0]
        depths = tuple(_count(state, f"{stage}{k}.blocks.") for k in range(3))
        stages = tuple(int(state[f"{stage}{k}.blocks.0.conv3.weight"].shape[0]) for k in range(3))
        stem = state[f"{trunk}patch_embed.backbone.stem.conv.weight"].shape[0]
        fused = state["scratch.layer1_rn.weight"].shape[0]
    except (KeyError, ValueError) as error:
        raise ValueError(f"this is no DPT-hybrid of MiDaS: it lacks {error}") from error
    return DptShape(
        width=int(width),
        layers=layers,
        heads=max(int(width) // 64, 1),
        inner=int(inner),
        taken=tuple(layers * (k + 1) // 4 - 1 for k in range(4)),
        side=16 * round((int(cells) - 1) ** 0.5),
        stem=int(stem),
        stages=stages,
        depths=depths,
        fused=int(fused),
    )


def _count(state: Mapping[str, Tensor], before: str) -> int:
    return 1 + max(int(n.removeprefix(before).split(".")[0]) for n in state if n.startswith(before))
