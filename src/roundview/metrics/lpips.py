"""LPIPS with weights that the user brings: nothing is ever downloaded.

The networks are torchvision's AlexNet and VGG16, whose trained weights are theirs; the linear heads
are LPIPS's, of which the package torchmetrics carries a copy. Always say which network: values of
the two do not compare.
"""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..features import VggFeatures
from ..losses import WeightedFeatureModel, perceptual_distance

Network = Literal["alex", "vgg"]

# Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014, as built by
# torchvision: number in `features`, inputs, outputs, kernel, stride, padding.
_ALEX_CONVS = (
    (0, 3, 64, 11, 4, 2),
    (3, 64, 192, 5, 1, 2),
    (6, 192, 384, 3, 1, 1),
    (8, 384, 256, 3, 1, 1),
    (10, 256, 256, 3, 1, 1),
)
_POOLED_BEFORE = (3, 6)


class AlexFeatures(nn.Module):
    """The AlexNet features that LPIPS compares: the outputs of its five rectified convolutions.

    Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", 2018.
    Frozen: gradients reach the picture, never the weights. Pictures from 32 px.

    Args:
        state: `features.N.weight` and `features.N.bias` as in torchvision's AlexNet; its
            `classifier.*` entries are ignored.
        heads: `linN.model.1.weight`, N from 0 to 4, as in the LPIPS repository; None weighs all
            channels alike, which is not LPIPS.

    Raises:
        ValueError: If a weight is missing or of another shape, or a head is negative.
    """

    channel_weights: list[Tensor]

    def __init__(
        self, state: Mapping[str, Tensor], heads: Mapping[str, Tensor] | None = None
    ) -> None:
        super().__init__()
        self.convs = nn.ModuleList()
        self.channel_weights = []
        for at, (number, inputs, outputs, kernel, stride, padding) in enumerate(_ALEX_CONVS):
            # Made without values, so that the global generator is left alone.
            conv = nn.utils.skip_init(nn.Conv2d, inputs, outputs, kernel, stride, padding)
            shape = (outputs, inputs, kernel, kernel)
            conv.weight = _frozen(state, f"features.{number}.weight", shape)
            conv.bias = _frozen(state, f"features.{number}.bias", (outputs,))
            self.convs.append(conv)
            name = f"lin{at}.model.1.weight"
            head = torch.ones(outputs)
            if heads is not None:
                head = _frozen(heads, name, (1, outputs, 1, 1))[0, :, 0, 0].detach()
            if bool((head < 0).any()):
                raise ValueError(f"head {name!r} must not be negative; LPIPS clamps it in training")
            self.channel_weights.append(head)
        self.eval()

    def maps(self, rgb: Float[Tensor, "n h w 3"]) -> list[Tensor]:
        """Give five channel-first maps of 64, 192, 384, 256 and 256 channels."""
        # LPIPS's ScalingLayer, which expects [-1, 1].
        shift = torch.tensor([-0.030, -0.088, -0.188]).to(rgb)
        scale = torch.tensor([0.458, 0.448, 0.450]).to(rgb)
        x = ((2 * rgb - 1 - shift) / scale).permute(0, 3, 1, 2)
        found: list[Tensor] = []
        for conv, (number, *_) in zip(self.convs, _ALEX_CONVS, strict=True):
            x = nn.functional.max_pool2d(x, 3, 2) if number in _POOLED_BEFORE else x
            x = nn.functional.relu(conv(x))
            found.append(x)
        return found

    def embedding(self, rgb: Float[Tensor, "n h w 3"]) -> Float[Tensor, "n 256"]:
        """Give the mean of the last map."""
        return self.maps(rgb)[-1].mean(dim=(2, 3))


def lpips(
    model: WeightedFeatureModel,
    picture: Float[Tensor, "n h w 3"],
    truth: Float[Tensor, "n h w 3"],
) -> Float[Tensor, " n"]:
    """Measure LPIPS (version 0.1): 0 for equal pictures, rarely over 1; lower is better.

    Zhang et al. 2018, eq. 1, with the heads of `model`. Pictures are taken at the size they have;
    some protocols resize to 224 px first. SyncDreamer's takes VGG, Magic123's Alex.
    """
    with torch.no_grad():
        return perceptual_distance(model, picture, truth)


def load_lpips(
    network: Network, backbone: Path, heads: Path | None = None
) -> AlexFeatures | VggFeatures:
    """Read a network and its heads from files.

    Args:
        network: alex or vgg.
        backbone: State dict of torchvision's AlexNet or VGG16, `.safetensors`, or `.pth` (read
            without running code).
        heads: LPIPS's linear heads, likewise; None takes torchmetrics' copy.

    Raises:
        FileNotFoundError: If a file is missing, or heads are wanted and torchmetrics has none.
        ValueError: If the file is of another network.
    """
    if heads is None:
        heads = installed_heads(network)
        if heads is None:
            raise FileNotFoundError(
                "LPIPS needs its linear heads: install torchmetrics, which holds them, or name a "
                f"file ({network}.pth of the LPIPS repository)"
            )
    kind = AlexFeatures if network == "alex" else VggFeatures
    return kind(read_state(backbone), read_state(heads))


def installed_heads(network: Network) -> Path | None:
    """Find LPIPS's heads in an installed torchmetrics, without importing it."""
    found = importlib.util.find_spec("torchmetrics")
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent / "functional" / "image" / "lpips_models"
    path = folder / f"{network}.pth"
    return path if path.is_file() else None


def read_state(path: Path) -> Mapping[str, Tensor]:
    """Read a state dict, from safetensors or a pickle that holds tensors alone."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file  # noqa: PLC0415  needed here only

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _frozen(state: Mapping[str, Tensor], name: str, shape: tuple[int, ...]) -> nn.Parameter:
    if name not in state:
        raise ValueError(f"weight {name!r} is missing; is this the right file?")
    if tuple(state[name].shape) != shape:
        raise ValueError(f"weight {name!r} must have shape {shape}, not {tuple(state[name].shape)}")
    return nn.Parameter(state[name].detach().float().clone(), requires_grad=False)
