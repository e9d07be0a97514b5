"""Pictures of one subject from known cameras."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from .camera import Cameras, concatenate_cameras
from .image import resize


@dataclass(frozen=True, eq=False)
class Views:
    """Posed pictures: colour composited over one background, alpha, and maybe geometry.

    Attributes:
        rgb: sRGB in [0, 1], already over the background (white unless the maker says otherwise).
        alpha: Coverage in [0, 1].
        cameras: The n cameras; their `size_hw` is (h, w).
        depth: Distance along the optical axis, world units, 0 where nothing is seen.
        normal: Unit normals in the world frame, 0 where nothing is seen.
    """

    rgb: Float[Tensor, "n h w 3"]
    alpha: Float[Tensor, "n h w"]
    cameras: Cameras
    depth: Float[Tensor, "n h w"] | None = None
    normal: Float[Tensor, "n h w 3"] | None = None

    def __post_init__(self) -> None:
        """Refuse pictures that do not belong to the cameras."""
        n, h, w = self.alpha.shape
        if n != len(self.cameras) or (h, w) != self.cameras.size_hw:
            raise ValueError(
                f"{n} views of {h}x{w} do not fit {len(self.cameras)} cameras of "
                f"{self.cameras.size_hw[0]}x{self.cameras.size_hw[1]}"
            )

    def __len__(self) -> int:
        """Count the views."""
        return int(self.alpha.shape[0])

    def __getitem__(self, index: int | slice | list[int]) -> "Views":
        """Take some of the views; one view stays a batch of one."""
        at = [index] if isinstance(index, int) else index
        return Views(
            self.rgb[at],
            self.alpha[at],
            self.cameras[at],
            None if self.depth is None else self.depth[at],
            None if self.normal is None else self.normal[at],
        )

    def resized(self, size_hw: tuple[int, int]) -> "Views":
        """The same views with another pixel count; colour and alpha only."""
        if size_hw == self.cameras.size_hw:
            return replace(self, depth=None, normal=None)
        return Views(
            resize(self.rgb, size_hw).clamp(0, 1),
            resize(self.alpha[..., None], size_hw)[..., 0].clamp(0, 1),
            self.cameras.resized(size_hw),
        )

    def straight_rgb(
        self, background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    ) -> Float[Tensor, "n h w 3"]:
        """Undo the composite over `background`; black where alpha is nearly 0."""
        colour = torch.tensor(background).to(self.rgb)
        alpha = self.alpha[..., None]
        straight = (self.rgb - colour * (1 - alpha)) / alpha.clamp(min=1e-3)
        return straight.clamp(0, 1) * (alpha > 1e-3)

    def to(self, device: torch.device | str) -> "Views":
        """The same views on another device."""
        return Views(
            self.rgb.to(device),
            self.alpha.to(device),
            self.cameras.to(device),
            None if self.depth is None else self.depth.to(device),
            None if self.normal is None else self.normal.to(device),
        )


def concatenate_views(parts: Sequence[Views]) -> Views:
    """Join views of one size; depth and normals are kept only if all parts have them.

    Raises:
        ValueError: If there are none or the sizes differ.
    """
    cameras = concatenate_cameras([part.cameras for part in parts])
    depths = [part.depth for part in parts if part.depth is not None]
    normals = [part.normal for part in parts if part.normal is not None]
    return Views(
        torch.cat([part.rgb for part in parts]),
        torch.cat([part.alpha for part in parts]),
        cameras,
        torch.cat(depths) if len(depths) == len(parts) else None,
        torch.cat(normals) if len(normals) == len(parts) else None,
    )
