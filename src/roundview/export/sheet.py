"""Contact sheets: pictures in a grid with captions, and the preview of a finished asset."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..image import resize
from ..views import Views
from .files import write_png

_MARGIN_PX = 12
_CAPTION_PX = 15
_FONT_PX = 12.0
_INK = (70, 70, 78)
_PAPER = (246, 246, 248)

Row = tuple[str, Sequence[Tensor], Sequence[str]]
"""A heading, pictures (h, w, 3 or 4) and a caption for each."""


def contact_sheet(
    pictures: Float[Tensor, "n h w c"], *, columns: int = 0, labels: Sequence[str] = ()
) -> Float[Tensor, "H W 3"]:
    """Lay pictures out in a grid.

    Args:
        pictures: RGB, or RGBA (straight), which is laid over a checkerboard.
        columns: Pictures a row; 0 makes the grid about square.
        labels: A caption for each; none at all for none.

    Raises:
        ValueError: If there are no pictures, or other than none or one label for each.
    """
    n = len(pictures)
    if n == 0:
        raise ValueError("a contact sheet needs pictures")
    if labels and len(labels) != n:
        raise ValueError(f"labels has {len(labels)} entries for {n} pictures")
    columns = columns if columns > 0 else int(np.ceil(np.sqrt(n)))
    rows: list[Row] = [
        ("", list(pictures[at : at + columns]), labels[at : at + columns])
        for at in range(0, n, columns)
    ]
    return _laid_out(rows, side_px=int(pictures.shape[1]))


def save_sheet(views: Views, path: Path | str, *, columns: int = 0) -> None:
    """Write a contact sheet of views as PNG, each labelled with where it was seen from."""
    labels = [
        f"azimuth {round(azimuth) % 360}, elevation {elevation:.0f}"
        for azimuth, elevation in zip(
            views.cameras.azimuth_deg.tolist(), views.cameras.elevation_deg.tolist(), strict=True
        )
    ]
    write_png(path, contact_sheet(views.rgb, columns=columns, labels=labels))


def preview(
    *,
    photo: Float[Tensor, "h w 3"] | None = None,
    matte: Float[Tensor, "a b 4"] | None = None,
    drawn: Views | None = None,
    renders: Views | None = None,
    side_px: int = 192,
) -> Float[Tensor, "H W 3"]:
    """Show on one sheet what came in, what was drawn, and what was made of it.

    Args:
        photo: The photograph.
        matte: The subject cut out, RGBA straight, any size; shown over a checkerboard.
        drawn: The views that the asset was made from; at most eight are shown, evenly chosen.
        renders: Views of the asset, with normals if the sheet is to show them.
        side_px: Height of each picture.

    Raises:
        ValueError: If there is nothing to show.
    """
    rows: list[Row] = []
    given = [("photo", photo), ("subject", matte)]
    first = [(label, picture) for label, picture in given if picture is not None]
    if matte is not None:
        first.append(("matte", matte[..., 3:].expand(*matte.shape[:2], 3)))
    if first:
        rows.append(("in", [picture for _, picture in first], [label for label, _ in first]))
    for heading, views in (("drawn views", drawn), ("the asset", renders)):
        if views is not None and len(views):
            shown = views[_evenly(len(views), 8)]
            rows.append((heading, list(shown.rgb), _angles(shown)))
    if renders is not None and renders.normal is not None and len(renders):
        shown = renders[_evenly(len(renders), 8)]
        rows.append(("its normals", list(_coloured(shown)), _angles(shown)))
    if not rows:
        raise ValueError("a preview needs something to show")
    return _laid_out(rows, side_px=side_px)


def _laid_out(rows: list[Row], *, side_px: int) -> Float[Tensor, "H W 3"]:
    """Draw rows of pictures, all `side_px` high, with headings and captions."""
    from PIL import Image as Pillow  # noqa: PLC0415
    from PIL import ImageDraw, ImageFont  # noqa: PLC0415

    sized = [[_thumbnail(picture, side_px) for picture in pictures] for _, pictures, _ in rows]
    width = _MARGIN_PX + max(sum(p.shape[1] + _MARGIN_PX for p in row) for row in sized)
    heights = [
        (_CAPTION_PX + 4 if heading else 0) + side_px + (_CAPTION_PX if captions else 0)
        for heading, _, captions in rows
    ]
    height = _MARGIN_PX + sum(h + _MARGIN_PX for h in heights)
    sheet = Pillow.new("RGB", (width, height), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT_PX)
    top = _MARGIN_PX
    for (heading, _, captions), pictures, row_height in zip(rows, sized, heights, strict=True):
        left, y = _MARGIN_PX, top
        if heading:
            draw.text((left, y), heading, (20, 20, 24), font)
            y += _CAPTION_PX + 4
        for at, picture in enumerate(pictures):
            sheet.paste(Pillow.fromarray(picture), (left, y))
            if captions:
                text = _cut(captions[at], lambda t: draw.textlength(t, font), picture.shape[1])
                draw.text((left, y + side_px + 2), text, _INK, font)
            left += picture.shape[1] + _MARGIN_PX
        top += row_height + _MARGIN_PX
    return torch.from_numpy(np.array(sheet)).float() / 255


def _thumbnail(picture: Tensor, side_px: int) -> np.ndarray:
    """Scale to a height; alpha goes over a checkerboard."""
    h, w = picture.shape[:2]
    size_hw = (side_px, max(1, min(round(w * side_px / h), 4 * side_px)))
    if picture.shape[2] == 4:
        alpha = picture[..., 3:]
        small = resize(torch.cat([picture[..., :3] * alpha, alpha], dim=2), size_hw).clamp(0, 1)
        rgb = small[..., :3] + _checkerboard(size_hw).to(small) * (1 - small[..., 3:])
    else:
        rgb = resize(picture, size_hw)
    return (rgb.detach().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()


def _checkerboard(size_hw: tuple[int, int], cell_px: int = 8) -> Float[Tensor, "h w 1"]:
    row, column = (torch.arange(n) // cell_px for n in size_hw)
    dark = (row[:, None] + column[None, :]) % 2
    return (0.92 - 0.12 * dark.float())[..., None]


def _coloured(views: Views) -> Float[Tensor, "n h w 3"]:
    """Show normals as colours: x red, y green, z blue; white where there are none."""
    if views.normal is None:
        raise ValueError("the views have no normals")
    alpha = views.alpha[..., None]
    length = views.normal.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    return (views.normal / length * 0.5 + 0.5) * alpha + (1 - alpha)


def _angles(views: Views) -> list[str]:
    return [
        f"{round(azimuth) % 360}\N{DEGREE SIGN} / {elevation:.0f}\N{DEGREE SIGN}"
        for azimuth, elevation in zip(
            views.cameras.azimuth_deg.tolist(), views.cameras.elevation_deg.tolist(), strict=True
        )
    ]


def _evenly(count: int, most: int) -> list[int]:
    return [int(at * count / most) for at in range(most)] if count > most else list(range(count))


def _cut(text: str, width_of: Callable[[str], float], most_px: int) -> str:
    """Shorten a caption until it fits under its picture."""
    if width_of(text) <= most_px:
        return text
    while text and width_of(text + "...") > most_px:
        text = text[:-1]
    return text + "..." if text else ""
