"""Enlarge a finished texture by a super-resolution network that the user supplies."""

import math
from collections.abc import Callable
from dataclasses import replace
from os import PathLike, fspath

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..mesh import Mesh, Texture

FACTOR = 4
"""How many times larger the picture becomes along each side, as most such networks have it."""

Enlarge = Callable[[Float[Tensor, "h w 3"]], Float[Tensor, "H W 3"]]
"""Makes an sRGB picture in [0, 1] larger."""


class OnnxEnlarger:
    """A super-resolution network in an ONNX file, such as an export of Real-ESRGAN.

    Wang et al., "Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data",
    2021, exports to this layout: one input and one output, (batch, 3, height, width), sRGB in
    [0, 1].

    Attributes:
        tile_px: The size of picture that the file insists on, or None if any will do.
    """

    tile_px: int | None

    def __init__(self, path: str | PathLike[str], *, threads: int = 1) -> None:
        """Open the network.

        Args:
            path: The ONNX file.
            threads: CPU threads the network may use.

        Raises:
            ValueError: If the file is no network that takes and gives one picture.
        """
        import onnxruntime  # noqa: PLC0415  slow to import

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                fspath(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # Its own kinds of error share no base but this.
            raise ValueError(f"{fspath(path)} is not an ONNX network that can be run") from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        shape = list(inputs[0].shape) if len(inputs) == 1 else []
        kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
        if (
            len(outputs) != 1
            or len(shape) != 4
            or shape[1] not in (3, None)
            or inputs[0].type not in kinds
        ):
            takes = ", ".join(f"{i.type} {i.shape}" for i in inputs)
            raise ValueError(
                f"{fspath(path)} takes {takes} and gives {len(outputs)} outputs; upscaling needs a "
                "network from one float (batch, 3, height, width) to one picture"
            )
        sides = {side for side in shape[2:] if isinstance(side, int)}
        if len(sides) > 1 or (sides and not all(isinstance(side, int) for side in shape[2:])):
            raise ValueError(f"{fspath(path)} takes pictures of {shape[2:]}; only squares will do")
        self.tile_px = sides.pop() if sides else None
        self._kind = kinds[inputs[0].type]
        self._name = inputs[0].name

    def __call__(self, rgb: Float[Tensor, "h w 3"]) -> Float[Tensor, "H W 3"]:
        """Enlarge a picture, sRGB in [0, 1]; the answer may leave that range a little."""
        batch = rgb.permute(2, 0, 1)[None].contiguous().numpy().astype(self._kind)
        answer = np.asarray(self._session.run(None, {self._name: batch})[0], np.float32)
        if answer.ndim != 4 or answer.shape[:2] != (1, 3):
            raise ValueError(
                f"the network gave {answer.shape}, not a picture (1, 3, height, width)"
            )
        return torch.from_numpy(np.ascontiguousarray(answer[0].transpose(1, 2, 0)))


def upscale_texture(
    mesh: Mesh, model: Enlarge, *, tile_px: int = 192, overlap_px: int = 16, largest_px: int = 8192
) -> Mesh:
    """Enlarge a mesh's texture four times; the mesh and its coordinates stay as they are.

    The picture goes through the network in tiles that overlap, and are blended there. What the
    network changes on the scale of the old texels, a tint above all, is taken back, so that flat
    colours and the padding round charts stay the same.

    Args:
        mesh: A textured mesh.
        model: The network; see `OnnxEnlarger`. If it has an attribute `tile_px` that is not None,
            that is the size of all tiles.
        tile_px: Side of the tiles, texels of the old texture: what memory allows.
        overlap_px: Texels that neighbouring tiles share.
        largest_px: Refuse to make textures with a longer side.

    Returns:
        The mesh with the new texture.

    Raises:
        ValueError: If the mesh has no texture, the result would be too large, the tiles do not
            exceed their overlaps, or the network does not enlarge four times.
    """
    if mesh.texture is None:
        raise ValueError("the mesh has no texture to upscale; bake one first")
    rgb = mesh.texture.rgb
    if FACTOR * max(rgb.shape[:2]) > largest_px:
        raise ValueError(
            f"upscaling a texture of {rgb.shape[1]}x{rgb.shape[0]} would pass {largest_px} texels "
            "a side; bake a smaller one"
        )
    tile_px = getattr(model, "tile_px", None) or tile_px
    if tile_px <= 2 * overlap_px:
        raise ValueError(f"tiles of {tile_px} texels need overlaps below half, got {overlap_px}")
    large = _consistent(_tiled(rgb.detach(), model, tile_px, overlap_px), rgb.detach())
    return replace(mesh, texture=Texture(large.clamp(0, 1)))


def _tiled(
    rgb: Float[Tensor, "h w 3"], model: Enlarge, tile: int, overlap: int
) -> Float[Tensor, "H W 3"]:
    """Enlarge tile by tile; each fades towards its rim where another one takes over."""
    h, w = rgb.shape[:2]
    # Half an overlap of repeated border all round, and more where the picture is below a tile.
    rows, columns = (max(1, math.ceil(side / (tile - overlap))) for side in (h, w))
    before = overlap // 2
    below, right = (
        count * (tile - overlap) + overlap - side - before
        for count, side in ((rows, h), (columns, w))
    )
    flat = torch.nn.functional.pad(
        rgb.permute(2, 0, 1)[None], (before, right, before, below), mode="replicate"
    )
    wide = flat[0].permute(1, 2, 0)
    share = _fade(tile, overlap)
    total = torch.zeros(FACTOR * wide.shape[0], FACTOR * wide.shape[1], 4)
    for top in range(0, rows * (tile - overlap), tile - overlap):
        for left in range(0, columns * (tile - overlap), tile - overlap):
            part = model(wide[top : top + tile, left : left + tile])
            if part.shape != (FACTOR * tile, FACTOR * tile, 3):
                raise ValueError(
                    f"the network makes {part.shape[1]}x{part.shape[0]} of {tile}x{tile}; "
                    f"upscaling takes one that enlarges {FACTOR} times"
                )
            weighted = torch.cat([part * share, share], dim=-1)
            at = (slice(FACTOR * top, FACTOR * (top + tile)),)
            total[(*at, slice(FACTOR * left, FACTOR * (left + tile)))] += weighted
    start = FACTOR * before
    total = total[start : start + FACTOR * h, start : start + FACTOR * w]
    return total[..., :3] / total[..., 3:].clamp(min=1e-12)


def _fade(tile: int, overlap: int) -> Float[Tensor, "H W 1"]:
    """Weights of a tile: 1 inside, falling to 0 over the middle half of the overlap.

    The outermost quarter does not count: there the network has guessed what lies beyond.
    """
    place = torch.arange(FACTOR * tile) + 0.5
    inward = torch.minimum(place, FACTOR * tile - place) / FACTOR
    ramp = ((inward - overlap / 4) / max(overlap / 2, 1)).clamp(0, 1)
    return (ramp[:, None] * ramp[None, :])[..., None]


def _consistent(
    large: Float[Tensor, "H W 3"], rgb: Float[Tensor, "h w 3"]
) -> Float[Tensor, "H W 3"]:
    """Shift an enlarged picture so that, made small again, it is nearly the one it came from."""

    def resampled(picture: Tensor, *, up: bool) -> Tensor:
        flat = picture.permute(2, 0, 1)[None]
        if up:
            out = torch.nn.functional.interpolate(flat, scale_factor=FACTOR, mode="bilinear")
        else:
            out = torch.nn.functional.avg_pool2d(flat, FACTOR)
        return out[0].permute(1, 2, 0)

    return large + resampled(rgb - resampled(large, up=False), up=True)
