"""Mattes: from a network, from the photograph's own alpha, from a mask, or whichever fits."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from os import PathLike, fspath

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image as PilImage
from torch import Tensor

from ..image import Foreground, Image, resize
from ..models import Matte
from .backdrop import Backdrop, correct_by_backdrop, find_backdrop, looks_like
from .found import NoObjectError, bounds, require_background, require_contrast, require_object
from .grabcut import grabcut_matte
from .refine import cut_out, main_parts, spread_colours, subject_colours

NETWORK_PX = 320
"""U-2-Net's input is a square of this side (Qin et al. 2020, section 4.2 crops to 288 of it)."""
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)

_NOTHING = (
    "no object found: nothing in the picture stands out; give a mask (--mask), or --no-matte if "
    "the whole picture is the object"
)

_log = logging.getLogger(__name__)

Saliency = Callable[[Float[Tensor, "h w 3"]], Float[Tensor, "h w"]]
"""Says how much each pixel belongs to what one looks at first."""


class U2NetMatte:
    """Cuts out what one looks at first, by a saliency network; implements `Matte`.

    Qin et al., "U2-Net: Going Deeper with Nested U-Structure for Salient Object Detection", 2020.
    Ours looks twice, the second time at the neighbourhood of what was found, which shows the
    subject larger; uses plain backdrops where there is one; and sharpens the answer on the picture.
    The same picture gives the same matte, whatever else runs.
    """

    def __init__(self, path: str | PathLike[str], *, threads: int = 1) -> None:
        """Open the network.

        Args:
            path: U-2-Net as an ONNX file with input 1x3x320x320, fused saliency as first output.
            threads: CPU threads the network may use.
        """
        import onnxruntime  # noqa: PLC0415  optional at run time: see `grabcut_matte`

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # The arena would keep 300 MB for good that later stages need.
        options.enable_cpu_mem_arena = False
        self._session = onnxruntime.InferenceSession(
            fspath(path), options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[0].name

    def __call__(self, photo: Image) -> Foreground:
        """Cut out the subject.

        Args:
            photo: The photograph; its alpha is not looked at.

        Returns:
            The subject at the photograph's size, with its own colours along the edge.

        Raises:
            NoObjectError: If nothing stands out, or everything does.
        """
        require_contrast(photo.rgb)
        cut = cut_out(partial(look_twice, self.saliency), photo)
        return require_background(require_object(cut))

    def saliency(self, rgb: Float[Tensor, "h w 3"]) -> Float[Tensor, "h w"]:
        """Ask the network once: resized to its square, answered in [0, 1], resized back.

        The network's answer is a probability, so it is not stretched to [0, 1] as others do: the
        faint answer to a blank picture must stay faint.
        """
        eight_bit = (rgb.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
        size = (NETWORK_PX, NETWORK_PX)
        square = PilImage.fromarray(eight_bit).resize(size, PilImage.Resampling.LANCZOS)
        values = np.asarray(square, np.float32)
        values = (values / max(float(values.max()), 1.0) - _MEAN) / _DEVIATION
        batch = np.ascontiguousarray(values.transpose(2, 0, 1)[None])
        answer = np.asarray(self._session.run([self._output], {self._input: batch})[0])
        back = resize(torch.from_numpy(answer[0, 0])[..., None], (rgb.shape[0], rgb.shape[1]))
        return back[..., 0].clamp(0, 1)


def look_twice(
    saliency: Saliency, rgb: Float[Tensor, "h w 3"]
) -> tuple[Float[Tensor, "h w"], float]:
    """Find the subject, then look at its neighbourhood again.

    Args:
        saliency: The network.
        rgb: The picture.

    Returns:
        Coarse coverage of the picture, and how many pixels its outline may be off.

    Raises:
        NoObjectError: If the network finds nothing, or is unsure about most of what it finds.
    """
    backdrop = find_backdrop(rgb.numpy())
    h, w = rgb.shape[:2]
    first = _through_window(saliency, rgb, backdrop, _window((0, 0, h, w), rgb, backdrop, 0.1))
    if backdrop is not None and _is_subject(first, rgb, backdrop):
        backdrop = None
        first = saliency(rgb)
    box = _box_of_main_parts(first)
    if box is None:
        raise NoObjectError(_NOTHING)
    window = _window(box, rgb, backdrop, 0.2)
    second = _through_window(saliency, rgb, backdrop, window)
    # The closer look shows more, but may fix on a part: then the first look stands.
    together = torch.minimum(first, second).sum() / torch.maximum(first, second).sum()
    found, (top, left, bottom, right) = (
        (second, window) if float(together) > 0.7 else (first, (0, 0, h, w))
    )
    if _unsure(found) > 0.75:
        raise NoObjectError(_NOTHING)
    if backdrop is not None:
        found = torch.from_numpy(correct_by_backdrop(found.numpy(), rgb.numpy(), backdrop))
    return found, max(bottom - top, right - left) / NETWORK_PX


def _window(
    box: tuple[int, int, int, int],
    rgb: Float[Tensor, "h w 3"],
    backdrop: Backdrop | None,
    margin: float,
) -> tuple[int, int, int, int]:
    """Widen a box by a margin to a square, which leaves the picture only on a plain backdrop."""
    top, left, bottom, right = box
    half = (0.5 + margin) * max(bottom - top, right - left)
    middle_y, middle_x = (top + bottom) / 2, (left + right) / 2
    top, bottom = round(middle_y - half), round(middle_y + half)
    left, right = round(middle_x - half), round(middle_x + half)
    if backdrop is not None:
        return top, left, bottom, right
    h, w = rgb.shape[:2]
    return max(top, 0), max(left, 0), min(bottom, h), min(right, w)


def _through_window(
    saliency: Saliency,
    rgb: Float[Tensor, "h w 3"],
    backdrop: Backdrop | None,
    window: tuple[int, int, int, int],
) -> Float[Tensor, "h w"]:
    """Ask about a window of the picture; outside of the window there is nothing."""
    h, w = rgb.shape[:2]
    top, left, bottom, right = window
    y0, x0, y1, x1 = max(top, 0), max(left, 0), min(bottom, h), min(right, w)
    inner = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
    plain = (1.0, 1.0, 1.0) if backdrop is None else np.median(backdrop.rgb, axis=(0, 1))
    shown = torch.tensor(np.asarray(plain, np.float32)).repeat(bottom - top, right - left, 1)
    shown[inner] = rgb[y0:y1, x0:x1]
    whole = torch.zeros(h, w)
    whole[y0:y1, x0:x1] = saliency(shown)[inner]
    return whole


def _box_of_main_parts(found: Float[Tensor, "h w"]) -> tuple[int, int, int, int] | None:
    subject = main_parts((found > 0.5).numpy())
    return bounds(torch.from_numpy(subject).to(torch.float32))


def _is_subject(
    found: Float[Tensor, "h w"], rgb: Float[Tensor, "h w 3"], backdrop: Backdrop
) -> bool:
    """Tell whether a supposed backdrop is a wall, a sheet or a close-up that was found itself."""
    like = torch.from_numpy(looks_like(rgb.numpy(), backdrop))
    return float(found[like].mean()) > 0.5


def _unsure(found: Float[Tensor, "h w"]) -> float:
    """Share of what was noticed that is neither surely in nor surely out."""
    noticed = (found > 0.1).sum().clamp(min=1)
    return float(((found > 0.1) & (found < 0.9)).sum() / noticed)


def matte_from_alpha(photo: Image) -> Foreground:
    """Take the photograph's own alpha for the matte; its colours are straight already.

    Raises:
        NoObjectError: If the picture has no alpha or shows no subject of useful size.
    """
    if photo.alpha is None:
        raise NoObjectError("the picture has no alpha channel to take the matte from")
    return require_object(Foreground(spread_colours(photo.rgb, photo.alpha), photo.alpha))


def matte_from_mask(photo: Image, mask: Float[Tensor, "h w"]) -> Foreground:
    """Take a mask for the matte, and the subject's own colours where it is soft.

    Args:
        photo: The photograph; its alpha is not looked at.
        mask: Coverage in [0, 1], of the photograph's size (`load_mask`).

    Raises:
        NoObjectError: If the mask shows no subject of useful size.
        ValueError: If the mask is of another size.
    """
    if tuple(mask.shape) != photo.size_hw:
        raise ValueError(f"mask is {tuple(mask.shape)} but the photograph is {photo.size_hw}")
    return require_object(Foreground(subject_colours(photo.rgb, mask), mask))


def whole_picture(photo: Image) -> Foreground:
    """Use the picture as it is: its alpha if it has one, else all of it is the subject."""
    if photo.alpha is not None:
        return matte_from_alpha(photo)
    return require_object(Foreground(photo.rgb, torch.ones(photo.size_hw)))


@dataclass(frozen=True, eq=False)
class PhotoMatte:
    """Cuts out the subject in the best way at hand; implements `Matte`.

    In this order: the mask if one is given, the photograph's alpha if it has a telling one, the
    network, and by colour alone (with a warning) if there is no network.

    Attributes:
        network: Usually a `U2NetMatte`; None if it cannot be had.
        mask: Coverage that the user painted, of the photograph's size.
    """

    network: Matte | None = None
    mask: Float[Tensor, "h w"] | None = None

    def __call__(self, photo: Image) -> Foreground:
        """Cut out the subject; raise NoObjectError if there is none."""
        if self.mask is not None:
            return matte_from_mask(photo, self.mask)
        if photo.alpha is not None:
            return matte_from_alpha(photo)
        if self.network is not None:
            return self.network(photo)
        _log.warning("the matting network is missing; cutting out by colour, which is less exact")
        return grabcut_matte(photo)
