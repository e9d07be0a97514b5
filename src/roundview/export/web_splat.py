"""`.splat`: 32 bytes a Gaussian, the layout that web viewers stream.

Kwok, "splat" (github.com/antimatter15/splat), 2023; there is no specification but its converter:
position and standard deviations as float32, then a byte each for red, green, blue and opacity, then
the unit quaternion wxyz as q * 128 + 128. The most important Gaussians come first, so that half a
file shows something. There is no header and no view-dependent colour. The frame is that of the PLY
it was made from: ours is +Y up, while viewers made for COLMAP captures may turn it upside down.
"""

import logging
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..gaussians import Gaussians
from ..rotation import SH_C0
from .files import quantised, write_bytes

_LOG = logging.getLogger(__name__)
_ROW = np.dtype(
    [("centre", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("quat_wxyz", "u1", 4)]
)
_THINNEST = 1e-12  # chosen by us: a deviation of 0, which others write, has no logarithm


def save_splat(gaussians: Gaussians, path: Path | str) -> None:
    """Write Gaussians as `.splat`, by falling volume times opacity, atomically.

    Colour and opacity are rounded to a 255th, the quaternion's numbers to a 128th; colour that
    depends on the view is left out, with a warning.

    Raises:
        ValueError: If a value is not finite.
    """
    g = gaussians.detach().to("cpu")
    if g.sh_degree > 0:
        _LOG.warning("a .splat file holds no colour that depends on the view: it is left out")
    check_finite(g)
    importance = g.log_scale.double().sum(dim=-1) + torch.nn.functional.logsigmoid(
        g.opacity_logit.double()
    )
    g = g[importance.argsort(descending=True, stable=True)]
    table = np.zeros(len(g), _ROW)
    table["centre"], table["scale"] = g.centre.numpy(), g.scale.numpy()
    table["rgba"] = quantised(torch.cat([g.base_rgb, g.opacity[:, None]], dim=-1), bits=8)
    unit = torch.nn.functional.normalize(g.quat_wxyz.double(), dim=-1)
    table["quat_wxyz"] = (unit * 128 + 128).round().clamp(0, 255).numpy()
    write_bytes(path, table.tobytes())


def load_splat(path: Path | str) -> Gaussians:
    """Read a `.splat` file, in its own order.

    Raises:
        ValueError: If the file is missing, or is not rows of 32 bytes with sensible numbers.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    if len(data) % _ROW.itemsize:
        raise ValueError(
            f"cannot read {path}: {len(data)} bytes are no rows of {_ROW.itemsize}: it is cut off, "
            "or no .splat file"
        )
    table = np.frombuffer(data, _ROW)
    centre, scale = table["centre"].astype(np.float32), table["scale"].astype(np.float32)
    quat = (table["quat_wxyz"].astype(np.float32) - 128) / 128
    if not (np.isfinite(centre).all() and np.isfinite(scale).all() and (scale >= 0).all()):
        raise ValueError(f"cannot read {path}: it holds positions or sizes that make no sense")
    if (quat == 0).all(axis=-1).any():
        raise ValueError(f"cannot read {path}: it has Gaussians with a rotation of 0, 0, 0, 0")
    rgb = torch.from_numpy(table["rgba"][:, :3] / np.float32(255))
    return Gaussians(
        torch.from_numpy(centre),
        torch.from_numpy(np.log(np.maximum(scale, _THINNEST))),
        torch.from_numpy(quat),
        logit_from_level(table["rgba"][:, 3]),
        ((rgb - 0.5) / SH_C0)[:, None],
    )


def logit_from_level(level: np.ndarray) -> Float[Tensor, " g"]:
    """Turn opacity in 255ths into logits; 0 and 255, which have none, count as a quarter inside."""
    opacity = torch.from_numpy(level.astype(np.float64)).clamp(0.25, 254.75) / 255
    return opacity.logit().float()


def check_finite(gaussians: Gaussians) -> None:
    """Refuse Gaussians that no file can hold.

    Raises:
        ValueError: If a value is not finite.
    """
    g = gaussians
    for values in (g.centre, g.log_scale, g.quat_wxyz, g.opacity_logit, g.sh):
        if not bool(values.isfinite().all()):
            raise ValueError("gaussians holds values that are not finite")
