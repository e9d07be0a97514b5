"""Claims about contact sheets: sizes by count, pictures where they belong, captions that fit."""

from pathlib import Path

import pytest
import torch

from roundview.camera import Cameras
from roundview.export.files import read_png
from roundview.export.sheet import contact_sheet, preview, save_sheet
from roundview.views import Views

MARGIN, CAPTION = 12, 15


def plain(*rgb: float, size: int = 20) -> torch.Tensor:
    return torch.tensor(rgb).expand(size, size, len(rgb))


def views(count: int, size: int = 16, *, normal: bool = False) -> Views:
    cameras = Cameras.orbit(
        [360 * i / count for i in range(count)],
        elevation_deg=10.0,
        radius=1.5,
        fov_deg=50.0,
        size_hw=(size, size),
    )
    rgb = torch.rand(count, size, size, 3, generator=torch.Generator().manual_seed(0))
    normals = torch.tensor([0.0, 0.0, 1.0]).expand(count, size, size, 3) if normal else None
    return Views(rgb, torch.ones(count, size, size), cameras, None, normals)


def test_pictures_stand_in_reading_order() -> None:
    pictures = torch.stack([plain(1.0, 0.0, 0.0), plain(0.0, 1.0, 0.0), plain(0.0, 0.0, 1.0)])
    sheet = contact_sheet(pictures, columns=2)
    assert tuple(sheet.shape) == (MARGIN + 2 * (20 + MARGIN), MARGIN + 2 * (20 + MARGIN), 3)
    for at, (row, column) in enumerate([(0, 0), (0, 1), (1, 0)]):
        top, left = MARGIN + row * 32, MARGIN + column * 32
        torch.testing.assert_close(sheet[top : top + 20, left : left + 20], pictures[at])
    paper = sheet[MARGIN + 32 :, MARGIN + 32 :]
    assert bool((paper == paper[0, 0]).all())  # the fourth place is empty


def test_captions_take_a_line_and_leave_ink() -> None:
    pictures = torch.ones(2, 60, 60, 3)
    bare = contact_sheet(pictures, columns=2)
    labelled = contact_sheet(pictures, columns=2, labels=["one", "two"])
    assert labelled.shape[0] == bare.shape[0] + CAPTION
    line = labelled[MARGIN + 60 : MARGIN + 60 + CAPTION]
    assert line[:, : MARGIN + 60].min() < 0.6
    assert line[:, MARGIN + 72 :].min() < 0.6


def test_a_long_caption_does_not_run_into_the_next() -> None:
    """Under a picture 40 wide a sentence is cut: the gap to the next one stays paper."""
    sheet = contact_sheet(torch.ones(1, 40, 40, 3), labels=["a very long caption indeed"])
    right = sheet[:, MARGIN + 40 :]
    assert bool((right == right[0, 0]).all())


def test_transparent_pictures_show_a_checkerboard() -> None:
    sheet = contact_sheet(plain(1.0, 0.0, 0.0, 0.0, size=32)[None])
    inside = sheet[MARGIN : MARGIN + 32, MARGIN : MARGIN + 32]
    assert len(inside.reshape(-1, 3).unique(dim=0)) == 2
    assert inside[..., 0].max() < 0.95  # no red comes through


def test_what_cannot_be_laid_out_is_refused() -> None:
    with pytest.raises(ValueError, match="needs pictures"):
        contact_sheet(torch.zeros(0, 4, 4, 3))
    with pytest.raises(ValueError, match="labels has 1"):
        contact_sheet(torch.zeros(2, 4, 4, 3), labels=["x"])
    with pytest.raises(ValueError, match="something to show"):
        preview()


def test_a_sheet_of_views_is_written(tmp_path: Path) -> None:
    save_sheet(views(5), tmp_path / "sheet.png")
    # Five views make a grid three wide and two high.
    wanted = (MARGIN + 2 * (16 + CAPTION + MARGIN), MARGIN + 3 * (16 + MARGIN), 3)
    assert tuple(read_png(tmp_path / "sheet.png").shape) == wanted


def test_a_preview_shows_every_row() -> None:
    row = CAPTION + 4 + 64 + CAPTION + MARGIN
    photo, matte = torch.rand(30, 40, 3), torch.rand(8, 8, 4)
    whole = preview(
        photo=photo,
        matte=matte,
        drawn=views(16),
        renders=views(8, normal=True),
        side_px=64,
    )
    assert tuple(whole.shape) == (MARGIN + 4 * row, MARGIN + 8 * (64 + MARGIN), 3)
    assert preview(drawn=views(3), side_px=64).shape[0] == MARGIN + row
    # A normal of +z is blue with half red and half green.
    normals = preview(renders=views(1, normal=True), side_px=64)
    top = MARGIN + row + CAPTION + 4
    torch.testing.assert_close(
        normals[top + 32, MARGIN + 32], torch.tensor([0.5, 0.5, 1.0]), rtol=0, atol=1 / 255
    )
