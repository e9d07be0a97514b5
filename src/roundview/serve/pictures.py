"""Pictures of what the stages of a job gave, while the job is still running.

They are drawn from what the stages keep on disk, in the process of `chores`: the job itself has no
less time for it, and an asset is the same whether somebody watches it being made or not.
"""

from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from ..camera import Cameras
from ..gaussians import Gaussians
from ..image import Foreground
from ..mesh import Asset, Mesh
from ..stages import FOLDER, Stages, seeded
from ..views import Views

_SIDE_PX = 512
_SIDES_DEG = [0.0, 60.0, 180.0, 270.0]  # Front, a corner, back and a side.


class _NothingMoreError(ValueError):
    """No later stage has ended."""


def newest_result(output: Path) -> Any:  # noqa: ANN401  whatever a stage gives
    """Read what the last stage gave that ended, of a job that writes to `output`.

    It is read by resuming the run and doing none of its work, so it comes as a stage would get it.

    Returns:
        The value, or None if there is none yet.

    Raises:
        ValueError: If a file is damaged.
    """
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415  only this needs it

    kept = sorted((output / FOLDER).glob("*.safetensors"))
    if not kept:
        return None
    try:
        with safe_open(kept[0], framework="pt") as stream:
            identity = stream.metadata()["identity"]
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"{kept[0].name} is no saved stage: {error}") from error
    run = Stages(seeded(0), directory=output / FOLDER, identity=identity, resume=True)
    value = None
    for path in kept:
        try:
            value = run(path.stem.split("-", 1)[1], _no_work)
        except _NothingMoreError:
            break
    return value


def _no_work(_: object) -> object:
    raise _NothingMoreError


def picture_of(value: Any) -> Float[Tensor, "h w 4"] | None:  # noqa: ANN401  see above
    """Draw the result of a stage on a transparent square; None if it is nothing to look at.

    Of several results the first that can be shown is; views give nine or four of them, splats and
    meshes are drawn from four sides.
    """
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, tuple | list):
        return next((drawn for part in value if (drawn := picture_of(part)) is not None), None)
    if isinstance(value, Foreground):
        return _tiled([value])
    if isinstance(value, Asset):
        value = value.mesh
    if isinstance(value, Gaussians):
        from ..splat.render import render_gaussians  # noqa: PLC0415  compiles when imported

        value = render_gaussians(value, _around())
    elif isinstance(value, Mesh):
        from ..surface.raster import Light, render_mesh  # noqa: PLC0415  compiles when imported

        light = None if value.texture is not None else Light(direction=(-0.5, 1.0, 0.8))
        value = render_mesh(value, _around(), light=light, geometry=False)
    if not isinstance(value, Views) or not len(value):
        return None
    shown = value[_spread(len(value))]
    pairs = zip(shown.straight_rgb(), shown.alpha, strict=True)
    return _tiled([Foreground(*pair) for pair in pairs])


def _around() -> Cameras:
    side = _SIDE_PX // 2
    return Cameras.orbit(
        _SIDES_DEG, elevation_deg=15.0, radius=2.1, fov_deg=32.0, size_hw=(side, side)
    )


def _spread(count: int) -> list[int]:
    """Choose nine, four or one of so many, evenly, the first among them."""
    wanted = next(square for square in (9, 4, 1) if square <= count)
    return [at * count // wanted for at in range(wanted)]


def _tiled(pictures: list[Foreground]) -> Float[Tensor, "h w 4"]:
    """Lay a square number of pictures side by side, as one of `_SIDE_PX` at most."""
    rows = round(len(pictures) ** 0.5)
    h, w = pictures[0].size_hw
    scale = min(1.0, _SIDE_PX / (rows * max(h, w)))
    size_hw = (max(1, round(h * scale)), max(1, round(w * scale)))
    small = [picture.resized(size_hw) for picture in pictures]
    tiles = [torch.cat([one.rgb, one.alpha[..., None]], dim=-1) for one in small]
    tiled = rearrange(torch.stack(tiles), "(y x) h w c -> (y h) (x w) c", y=rows)
    return tiled.float().cpu().clamp(0, 1)
