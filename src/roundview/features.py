"""Deep features of pictures: EfficientNet-lite0 (shipped) and VGG16 (weights from the user).

Both are frozen: gradients reach the picture, never the weights. Pictures are channel-last sRGB in
[0, 1]; the networks scale them inside.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn


class _Stage(NamedTuple):
    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


# Tan and Le 2019, table 1, without squeeze and excitation; "lite" keeps stem and head as they are.
_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)
_STEM_CHANNELS = 32
_BATCH_NORM_EPS = 1e-3
# Stages whose output `maps` gives: 1/2, 1/4, 1/8 and 1/16 of the picture. The later stages cost
# more than these together and see little but the whole subject.
_MAP_STAGES = (0, 1, 2, 3)


class EfficientNetLite0(nn.Module):
    """EfficientNet-lite0: `maps` at 1/2 to 1/16 of the size, and a 1280-vector a picture.

    Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", 2019;
    the lite variant drops squeeze-and-excitation and swaps swish for ReLU6. Trained on ImageNet
    classes, not on people's judgements: distances in its features are to be called "deep-feature
    distance (EfficientNet-lite0), not LPIPS".

    Pictures of any size from 32 px; it was trained at 224 px.

    Args:
        state: The weights under the names of the `efficientnet-lite-pytorch` package, batch norms
            included and the classifier left out, as `roundview` ships them. The norms are folded
            into the convolutions here.

    Raises:
        ValueError: If a weight is missing, left over or of another shape.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        weights = _Weights(state)
        self.stem = weights.conv("_conv_stem", "_bn0", (3, _STEM_CHANNELS), kernel=3, stride=2)
        self.stages = nn.ModuleList()
        channels, at = _STEM_CHANNELS, 0
        for stage in _STAGES:
            blocks = nn.Sequential()
            for _ in range(stage.blocks):
                stride = 1 if len(blocks) else stage.stride
                blocks.append(_Block(weights, f"_blocks.{at}.", channels, stage, stride))
                channels, at = stage.channels, at + 1
            self.stages.append(blocks)
        self.head = weights.conv("_conv_head", "_bn1", (channels, 1280), kernel=1)
        weights.refuse_leftovers()
        self.requires_grad_(False).eval()

    def maps(self, rgb: Float[Tensor, "n h w 3"]) -> list[Tensor]:
        """Give channel-first feature maps of 16, 24, 40 and 80 channels, finest first."""
        x, found = self._stem(rgb), []
        for index, stage in enumerate(self.stages[: _MAP_STAGES[-1] + 1]):
            x = stage(x)
            if index in _MAP_STAGES:
                found.append(x)
        return found

    def embedding(self, rgb: Float[Tensor, "n h w 3"]) -> Float[Tensor, "n 1280"]:
        """Give the pooled output of the head, which the classifier was trained on."""
        x = self._stem(rgb)
        for stage in self.stages:
            x = stage(x)
        return _relu6(self.head(x)).mean(dim=(2, 3))

    def _stem(self, rgb: Float[Tensor, "n h w 3"]) -> Float[Tensor, "n c hh ww"]:
        # (value - 127) / 128 of 8-bit values, as the lite models were trained; the ImageNet means
        # in the PyTorch package's example belong to the models that are not lite.
        return _relu6(self.stem((rgb * (255 / 128) - 127 / 128).permute(0, 3, 1, 2)))


class _Block(nn.Module):
    """Widen, filter each channel, narrow; add the input where the shapes agree."""

    def __init__(
        self, weights: "_Weights", prefix: str, channels: int, stage: _Stage, stride: int
    ) -> None:
        super().__init__()
        wide = channels * stage.expansion
        self.expand = (
            weights.conv(f"{prefix}_expand_conv", f"{prefix}_bn0", (channels, wide), kernel=1)
            if stage.expansion > 1
            else None
        )
        self.depthwise = weights.conv(
            f"{prefix}_depthwise_conv",
            f"{prefix}_bn1",
            (wide, wide),
            kernel=stage.kernel,
            stride=stride,
            groups=wide,
        )
        self.project = weights.conv(
            f"{prefix}_project_conv", f"{prefix}_bn2", (wide, stage.channels), kernel=1
        )
        self.residual = stride == 1 and channels == stage.channels

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n C H W"]:
        wide = x if self.expand is None else _relu6(self.expand(x))
        out = self.project(_relu6(self.depthwise(wide)))
        return x + out if self.residual else out


class _SameConv(nn.Module):
    """Convolution padded as TensorFlow's SAME: the odd pixel goes to the right and below."""

    def __init__(
        self,
        weight: Float[Tensor, "o i k k"],
        bias: Float[Tensor, " o"],
        *,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last))
        self.bias = nn.Parameter(bias)
        self.stride, self.groups = stride, groups

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n C H W"]:
        kernel = self.weight.shape[-1]
        down, across = (_padding_px(side, kernel, self.stride) for side in x.shape[-2:])
        inside = (down // 2, across // 2)
        if down % 2 or across % 2:
            x = nn.functional.pad(x, (inside[1], across - inside[1], inside[0], down - inside[0]))
            inside = (0, 0)
        return nn.functional.conv2d(
            x, self.weight, self.bias, self.stride, inside, groups=self.groups
        )


def _padding_px(side: int, kernel: int, stride: int) -> int:
    outputs = -(-side // stride)
    return max((outputs - 1) * stride + kernel - side, 0)


class _Weights:
    """Hands out a state dict's tensors, each once, and complains about wrong ones."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self.left = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        if name not in self.left:
            raise ValueError(f"weight {name!r} is missing; is this the right file?")
        tensor = self.left.pop(name)
        if tuple(tensor.shape) != shape:
            raise ValueError(f"weight {name!r} must have shape {shape}, got {tuple(tensor.shape)}")
        return tensor.detach().float()

    def refuse_leftovers(self) -> None:
        if self.left:
            raise ValueError(
                f"{len(self.left)} weights are not of this model: {sorted(self.left)[:5]}"
            )

    def conv(
        self,
        name: str,
        norm: str,
        channels: tuple[int, int],
        *,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
    ) -> _SameConv:
        """Build a convolution with the batch norm after it folded in."""
        inputs, outputs = channels
        weight = self.take(f"{name}.weight", (outputs, inputs // groups, kernel, kernel))
        gain, shift, mean, variance = (
            self.take(f"{norm}.{part}", (outputs,))
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        factor = gain / (variance + _BATCH_NORM_EPS).sqrt()
        folded = weight * factor[:, None, None, None]
        return _SameConv(folded, shift - mean * factor, stride=stride, groups=groups)


def _relu6(x: Tensor) -> Tensor:
    return nn.functional.relu6(x, inplace=True)


# Simonyan and Zisserman 2015, configuration D: output channels of the convolutions before each
# pooling. In torchvision's `features` every convolution, ReLU and pooling takes one number.
_VGG_LEVELS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class VggFeatures(nn.Module):
    """The VGG16 features that LPIPS compares, with LPIPS's heads if they are given.

    Zhang et al. 2018. `maps` are the outputs of relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3.
    With heads, `perceptual_distance` of this model is LPIPS (VGG, version 0.1); without, it is the
    unweighted distance in VGG's features. No weights ship with roundview: torchvision's VGG16 is
    the network that the heads were fitted to.

    Args:
        state: `features.N.weight` and `features.N.bias` as in torchvision's VGG16; its
            `classifier.*` entries are ignored.
        heads: `linN.model.1.weight`, N from 0 to 4, as in the LPIPS repository.

    Raises:
        ValueError: If a weight is missing, left over or of another shape, or a head is negative.
    """

    channel_weights: list[Tensor]

    def __init__(
        self, state: Mapping[str, Tensor], heads: Mapping[str, Tensor] | None = None
    ) -> None:
        super().__init__()
        weights = _Weights({k: v for k, v in state.items() if not k.startswith("classifier.")})
        self.levels = nn.ModuleList()
        channels, at = 3, 0
        for level in _VGG_LEVELS:
            convs = nn.Sequential()
            for outputs in level:
                kernel = weights.take(f"features.{at}.weight", (outputs, channels, 3, 3))
                bias = weights.take(f"features.{at}.bias", (outputs,))
                convs.extend([_SameConv(kernel, bias), nn.ReLU()])
                channels, at = outputs, at + 2
            self.levels.append(convs)
            at += 1
        weights.refuse_leftovers()
        self.channel_weights = _head_weights(heads)
        self.requires_grad_(False).eval()

    @classmethod
    def load(cls, vgg16: Path, heads: Path | None = None) -> "VggFeatures":
        """Read the two state dicts from safetensors files.

        Raises:
            ValueError: As the constructor does.
            FileNotFoundError: If there is no such file.
        """
        from safetensors.torch import load_file  # noqa: PLC0415  needed here only

        return cls(load_file(vgg16), None if heads is None else load_file(heads))

    def maps(self, rgb: Float[Tensor, "n h w 3"]) -> list[Tensor]:
        """Give the five feature maps, 64 to 512 channels, at 1 to 1/16 of the size."""
        # LPIPS's ScalingLayer, which expects [-1, 1].
        shift = torch.tensor([-0.030, -0.088, -0.188]).to(rgb)
        scale = torch.tensor([0.458, 0.448, 0.450]).to(rgb)
        x = ((2 * rgb - 1 - shift) / scale).permute(0, 3, 1, 2)
        found: list[Tensor] = []
        for level in self.levels:
            x = nn.functional.max_pool2d(x, 2) if found else x
            x = level(x)
            found.append(x)
        return found

    def embedding(self, rgb: Float[Tensor, "n h w 3"]) -> Float[Tensor, "n 512"]:
        """Give the mean of the last map."""
        return self.maps(rgb)[-1].mean(dim=(2, 3))


def _head_weights(heads: Mapping[str, Tensor] | None) -> list[Tensor]:
    sizes = [level[-1] for level in _VGG_LEVELS]
    if heads is None:
        return [torch.ones(size) for size in sizes]
    weights = _Weights(heads)
    vectors = [
        weights.take(f"lin{i}.model.1.weight", (1, size, 1, 1))[0, :, 0, 0]
        for i, size in enumerate(sizes)
    ]
    weights.refuse_leftovers()
    if any(bool((vector < 0).any()) for vector in vectors):
        raise ValueError("heads must not be negative; LPIPS clamps them while it trains")
    return vectors
