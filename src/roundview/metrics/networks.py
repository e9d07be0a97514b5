"""Judging networks in the user's own weights: VGG19 for contextual distances, CLIP for likeness."""

from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..diffusion.clip import ClipTower, clip_input
from .lpips import read_state

# Simonyan and Zisserman, "Very Deep Convolutional Networks", 2015, configuration E: widths of the
# convolutions, "M" for a pooling; layers are numbered as in torchvision's `features`.
_VGG19 = (
    *(64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M"),
    *(512, 512, 512, 512, "M", 512, 512, 512, 512),
)
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Vgg19Relu54(nn.Module):
    """VGG19's relu5_4, the map that contextual distances of HiFi-123's kind compare.

    Args:
        state: `features.N.weight` and `features.N.bias` as in torchvision's VGG19; the rest of it
            is ignored.

    Raises:
        ValueError: If a weight is missing or of another shape.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        number, inputs = 0, 3
        for width in _VGG19:
            if isinstance(width, str):
                layers.append(nn.MaxPool2d(2))
                number += 1
                continue
            # Made without values, so that the global generator is left alone.
            conv = nn.utils.skip_init(nn.Conv2d, inputs, width, 3, padding=1)
            conv.weight = _taken(state, f"features.{number}.weight", (width, inputs, 3, 3))
            conv.bias = _taken(state, f"features.{number}.bias", (width,))
            layers += [conv, nn.ReLU()]
            number, inputs = number + 2, width
        self.layers = nn.Sequential(*layers)
        self.requires_grad_(False).eval()

    def forward(self, rgb: Float[Tensor, "n h w 3"]) -> Float[Tensor, "n 512 h2 w2"]:
        """Give the map, at a sixteenth of the size."""
        mean, std = torch.tensor(_MEAN).to(rgb), torch.tensor(_STD).to(rgb)
        return self.layers(((rgb - mean) / std).movedim(-1, 1))

    @classmethod
    def load(cls, path: Path) -> "Vgg19Relu54":
        """Read a state dict, safetensors or a pickle of tensors alone.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: As the constructor does.
        """
        return cls(read_state(path))


class ClipLikeness(nn.Module):
    """Embeds pictures by a CLIP image tower, with the preparation that it was trained with."""

    def __init__(self, tower: ClipTower) -> None:
        super().__init__()
        self.tower = tower.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, rgb: Float[Tensor, "n h w 3"]) -> Float[Tensor, "n c"]:
        """Give one vector a picture, not normalised."""
        prepared = clip_input(
            rgb.movedim(-1, 1) * 2 - 1, side=self.tower.shape.side, antialias=True
        )
        return self.tower(prepared)


def _taken(state: Mapping[str, Tensor], name: str, shape: tuple[int, ...]) -> nn.Parameter:
    if name not in state:
        raise ValueError(f"weight {name!r} is missing; is this torchvision's VGG19?")
    if tuple(state[name].shape) != shape:
        raise ValueError(f"weight {name!r} must have shape {shape}, not {tuple(state[name].shape)}")
    return nn.Parameter(state[name].detach().float().clone(), requires_grad=False)
