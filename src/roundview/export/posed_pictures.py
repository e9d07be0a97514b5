"""Other people's pictures made to fit `Cameras`: square pixels, the axis in the middle, one size.

Whatever is cut or resampled is said in the log, and the lenses are changed with the pictures.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..image import resize
from .files import levels_from_bytes

_LOG = logging.getLogger(__name__)
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".PNG", ".JPG", ".JPEG")
_LARGEST_PX = 1280
"""A side of a picture; larger ones are shrunk, else a hundred of a phone's would fill 20 GB. Chosen
by us: a texture of 1024 seen whole is no finer."""
_OFF_PX = 0.5
"""How far the axis may be off the middle, and pixels be from square at the rim, unmended."""


@dataclass(frozen=True)
class Lens:
    """A pinhole in pixels: size, focal lengths and principal point, the corner at (0, 0)."""

    size_hw: tuple[int, int]
    focal_xy: tuple[float, float]
    centre_xy: tuple[float, float]

    def __post_init__(self) -> None:
        """Refuse lenses that cannot form an image."""
        if min(self.size_hw) < 1 or not all(0 < f < float("inf") for f in self.focal_xy):
            raise ValueError(f"focal lengths must be positive, got {self.focal_xy} px")
        (h, w), (x, y) = self.size_hw, self.centre_xy
        if not (0 < x < w and 0 < y < h):
            raise ValueError(f"the optical axis at ({x:g}, {y:g}) lies outside of {w}x{h} pixels")

    @property
    def off_centre_px(self) -> float:
        """How far the axis is from the middle, in the worse direction."""
        (h, w), (x, y) = self.size_hw, self.centre_xy
        return max(abs(x - w / 2), abs(y - h / 2))

    @property
    def off_square_px(self) -> float:
        """What taking one focal length for both would move at the rim."""
        return abs(self.focal_xy[0] / self.focal_xy[1] - 1) * max(self.size_hw) / 2

    def resized(self, size_hw: tuple[int, int]) -> "Lens":
        """The lens of the same picture with another pixel count."""
        down, across = size_hw[0] / self.size_hw[0], size_hw[1] / self.size_hw[1]
        (fx, fy), (x, y) = self.focal_xy, self.centre_xy
        return Lens(size_hw, (fx * across, fy * down), (x * across, y * down))


def centred_pictures(
    pictures: list[Float[Tensor, "_ _ 4"]], lenses: list[Lens]
) -> tuple[Float[Tensor, "n h w 4"], Float[Tensor, " n"]]:
    """Resample and cut pictures until one focal length and the middle describe them all.

    Pixels that are not square are shrunk along their finer direction. What lies further from the
    axis on one side than on the other is cut, to the largest size that all pictures have; that
    leaves the axis within half a pixel of the middle. Pictures that fit stay as they are.

    Args:
        pictures: Straight RGBA, at least one.
        lenses: One for each, of the picture's size.

    Returns:
        The pictures and their focal lengths in pixels.

    Raises:
        ValueError: If nothing would be left.
    """
    squared = [_squared(*pair) for pair in zip(pictures, lenses, strict=True)]
    focal = torch.tensor([lens.focal_xy[1] for _, lens in squared])
    sizes = {lens.size_hw for _, lens in squared}
    if len(sizes) == 1 and all(lens.off_centre_px <= _OFF_PX for _, lens in squared):
        return torch.stack([picture for picture, _ in squared]), focal
    h, w = (
        _common([(lens.size_hw[a], lens.centre_xy[1 - a]) for _, lens in squared]) for a in (0, 1)
    )
    _LOG.warning("pictures are cut to %dx%d so that the optical axis is in the middle", w, h)
    cut = []
    for picture, lens in squared:
        left, top = round(lens.centre_xy[0] - w / 2), round(lens.centre_xy[1] - h / 2)
        cut.append(picture[top : top + h, left : left + w])
    return torch.stack(cut), focal


def picture_file(folder: Path, name: str, what: str) -> Path:
    """Find a picture in a folder or below; its name may lack the suffix.

    Raises:
        ValueError: If it is missing, or its name leads out of the folder.
    """
    path = folder / name
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{what} {name[:200]!r} lies outside of {folder}")
        names = (path.name, *(path.name + suffix for suffix in _SUFFIXES))
        found = next((file for n in names if (file := path.with_name(n)).is_file()), None)
    except (OSError, RuntimeError):  # A name too long to exist, a link that leads to itself.
        found = None
    if found is None:
        raise ValueError(f"the picture {name[:200]!r} is missing")
    return found


def read_rgba(path: Path, mask: Path | None) -> Float[Tensor, "h w 4"]:
    """Read a picture as straight RGBA, shrunk where it is larger than we use.

    A mask multiplies what alpha there is; of a mask with colours the first channel counts.

    Raises:
        ValueError: If a file is broken, the mask has another shape, or nothing says where the
            subject is.
    """
    picture = _read(path)
    h, w, channels = picture.shape
    if channels != 4 and mask is None:
        raise ValueError(
            f"the picture {path.name} has neither alpha nor a mask, so nothing tells the subject "
            "from its background: cut it out, or give masks that are white on the subject"
        )
    rgb = picture[..., :3] if channels >= 3 else picture.expand(h, w, 3)
    alpha = picture[..., 3] if channels == 4 else torch.ones(h, w)
    if mask is not None:
        cover = _read(mask)
        if abs(cover.shape[1] * h / cover.shape[0] - w) > 1:
            raise ValueError(
                f"the mask {mask.name} is {cover.shape[1]}x{cover.shape[0]}, its picture {w}x{h}"
            )
        alpha = alpha * resize(cover[..., :1], (h, w))[..., 0].clamp(0, 1)
    rgba = torch.cat([rgb, alpha[..., None]], dim=-1)
    if max(h, w) <= _LARGEST_PX:
        return rgba
    shrink = _LARGEST_PX / max(h, w)
    return _resampled(rgba, (max(1, round(h * shrink)), max(1, round(w * shrink))))


def _read(path: Path) -> Float[Tensor, "h w c"]:
    """Read a picture, at twice the side that is used at most: what is left is shrunk with care."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    levels = levels_from_bytes(data, str(path), most_px=2 * _LARGEST_PX)
    return torch.from_numpy(levels.astype(np.float32) / np.iinfo(levels.dtype).max)


def _squared(picture: Float[Tensor, "h w 4"], lens: Lens) -> tuple[Float[Tensor, "H W 4"], Lens]:
    if lens.off_square_px <= _OFF_PX:
        return picture, lens
    (h, w), (fx, fy) = lens.size_hw, lens.focal_xy
    focal = min(fx, fy)
    size_hw = (max(1, round(h * focal / fy)), max(1, round(w * focal / fx)))
    _LOG.warning("pixels are not square: a picture of %dx%d becomes %dx%d", w, h, *size_hw[::-1])
    return _resampled(picture, size_hw), lens.resized(size_hw)


def _common(axes: list[tuple[int, float]]) -> int:
    """Find the longest side that all pictures have round their axis."""
    most = int(min(2 * min(centre, size - centre) + 0.5 for size, centre in axes))

    def off(side: int) -> float:
        return max(abs((start := centre - side / 2) - round(start)) for _, centre in axes)

    sides = [side for side in (most, most - 1) if side >= 1]
    if not sides:
        raise ValueError("the optical axis is at a picture's rim: nothing is left to look at")
    return min(sides, key=off)


def _resampled(rgba: Float[Tensor, "h w 4"], size_hw: tuple[int, int]) -> Float[Tensor, "H W 4"]:
    """Shrink straight colour with its coverage, so that no background bleeds in."""
    alpha = rgba[..., 3:]
    small = resize(torch.cat([rgba[..., :3] * alpha, alpha], dim=-1), size_hw).clamp(0, 1)
    rgb = (small[..., :3] / small[..., 3:].clamp(min=1e-6)).clamp(0, 1)
    return torch.cat([rgb, small[..., 3:]], dim=-1)
