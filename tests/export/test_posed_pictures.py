"""Claims about pictures of other cameras: what is cut, what is resampled, what is refused."""

from pathlib import Path

import pytest
import torch
from fakes import block

from roundview.camera import Cameras, project
from roundview.export.files import write_png
from roundview.export.posed_pictures import Lens, centred_pictures, picture_file, read_rgba
from roundview.surface.raster import render_mesh

ORBIT = {"elevation_deg": 20.0, "radius": 2.0, "fov_deg": 50.0}


def coordinates(h: int, w: int) -> torch.Tensor:
    """A picture that says where each pixel was: row in red, column in green."""
    row, column = torch.meshgrid(torch.arange(h) / 255, torch.arange(w) / 255, indexing="ij")
    return torch.stack([row, column, torch.zeros(h, w), torch.ones(h, w)], dim=-1)


def test_what_fits_stays_as_it_is() -> None:
    picture = coordinates(8, 12)
    rgba, focal = centred_pictures([picture], [Lens((8, 12), (9.0, 9.05), (6.4, 4.0))])
    assert torch.equal(rgba[0], picture)
    assert focal.tolist() == pytest.approx([9.05])


@pytest.mark.parametrize(
    ("centre_xy", "columns", "rows"),
    [
        ((9.0, 10.0), (0, 18), (0, 20)),
        ((20.0, 12.0), (10, 30), (4, 20)),
        ((15.0, 7.5), (0, 30), (0, 15)),
        ((11.5, 13.0), (0, 23), (6, 20)),
        ((12.2, 10.0), (0, 24), (0, 20)),
    ],
)
def test_cuts_leave_the_axis_in_the_middle(
    centre_xy: tuple[float, float], columns: tuple[int, int], rows: tuple[int, int]
) -> None:
    rgba, _ = centred_pictures([coordinates(20, 30)], [Lens((20, 30), (25.0, 25.0), centre_xy)])
    assert torch.equal(rgba[0], coordinates(20, 30)[slice(*rows), slice(*columns)])


def test_pictures_of_two_cameras_get_one_size() -> None:
    lenses = [
        Lens((20, 30), (25.0, 25.0), (15.0, 10.0)),
        Lens((24, 28), (31.0, 31.0), (13.0, 12.0)),
    ]
    rgba, focal = centred_pictures([coordinates(20, 30), coordinates(24, 28)], lenses)
    assert tuple(rgba.shape) == (2, 20, 26, 4)
    assert focal.tolist() == [25.0, 31.0]
    assert torch.equal(rgba[0, 0, 0, :2] * 255, torch.tensor([0.0, 2.0]))
    assert torch.equal(rgba[1, 0, 0, :2] * 255, torch.tensor([2.0, 0.0]))


def test_a_lens_off_the_middle_sees_the_same_scene() -> None:
    """Truth is drawn by a camera of ours; the other's picture is a piece of a larger one."""
    large = Cameras.orbit([30.0], size_hw=(96, 96), **ORBIT)
    view = render_mesh(block(), large)
    picture = torch.cat([view.straight_rgb(), view.alpha[..., None]], dim=-1)[0]
    focal = float(large.focal_px[0])
    lens = Lens((80, 70), (focal, focal), (38.0, 43.0))
    rgba, got_focal = centred_pictures([picture[5:85, 10:80]], [lens])
    h, w = rgba.shape[1:3]
    assert (h, w) == (74, 64)
    cameras = Cameras(large.world_from_camera, got_focal, (h, w))
    wanted = render_mesh(block(), cameras)
    torch.testing.assert_close(rgba[..., 3], wanted.alpha, rtol=0, atol=1e-4)


def test_tall_pixels_are_made_square() -> None:
    """A picture of twice the rows has twice the focal length downwards."""
    cameras = Cameras.orbit([30.0], size_hw=(64, 64), **ORBIT)
    fine = Cameras.orbit([30.0], size_hw=(128, 128), **ORBIT)
    view = render_mesh(block(), fine)
    tall = torch.cat([view.straight_rgb(), view.alpha[..., None]], dim=-1)[0]
    tall = (tall[:, 0::2] + tall[:, 1::2]) / 2
    focal = float(cameras.focal_px[0])
    rgba, got_focal = centred_pictures([tall], [Lens((128, 64), (focal, 2 * focal), (32.0, 64.0))])
    assert tuple(rgba.shape) == (1, 64, 64, 4)
    assert got_focal.tolist() == pytest.approx([focal])
    wanted = render_mesh(block(), cameras)
    assert float((rgba[..., 3] - wanted.alpha).abs().mean()) < 0.01
    corner = project(block().vertices, cameras)[0][0]
    rows = rgba[0, ..., 3].sum(dim=1) > 0.5
    assert float(rows.nonzero().min()) == pytest.approx(float(corner[:, 1].min()), abs=1.0)


def test_an_axis_at_the_rim_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing is left"):
        centred_pictures([coordinates(8, 8)], [Lens((8, 8), (9.0, 9.0), (0.1, 4.0))])
    with pytest.raises(ValueError, match="outside of 8x8"):
        Lens((8, 8), (9.0, 9.0), (8.5, 4.0))
    with pytest.raises(ValueError, match="must be positive"):
        Lens((8, 8), (9.0, 0.0), (4.0, 4.0))


def test_large_pictures_are_shrunk_without_their_background(tmp_path: Path) -> None:
    picture = torch.zeros(4, 2560, 4)
    picture[:, :1281] = torch.tensor([1.0, 0.0, 0.0, 1.0])
    write_png(tmp_path / "a.png", picture)
    got = read_rgba(tmp_path / "a.png", None)
    assert tuple(got.shape) == (2, 1280, 4)
    seen = got[..., 3] > 0.01
    # Half of the pixel on the edge is there, and all of its colour is red.
    torch.testing.assert_close(got[seen][:, 0], torch.ones(int(seen.sum())), rtol=0, atol=1e-3)


def test_masks_multiply_and_must_fit(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", torch.full((4, 6, 4), 0.6))
    write_png(tmp_path / "grey.png", torch.full((4, 6, 1), 0.4))
    write_png(tmp_path / "mask.png", torch.full((8, 12, 3), 0.6))
    write_png(tmp_path / "other.png", torch.full((6, 6, 1), 0.4))
    both = read_rgba(tmp_path / "a.png", tmp_path / "mask.png")
    torch.testing.assert_close(both[..., 3], torch.full((4, 6), 0.36))
    alone = read_rgba(tmp_path / "grey.png", tmp_path / "mask.png")
    torch.testing.assert_close(alone[0, 0], torch.tensor([0.4, 0.4, 0.4, 0.6]))
    with pytest.raises(ValueError, match=r"mask other\.png is 6x6, its picture 6x4"):
        read_rgba(tmp_path / "a.png", tmp_path / "other.png")
    with pytest.raises(ValueError, match=r"grey\.png has neither alpha nor a mask"):
        read_rgba(tmp_path / "grey.png", None)


def test_names_stay_in_the_folder(tmp_path: Path) -> None:
    write_png(tmp_path / "in" / "a.png", torch.zeros(1, 1, 1))
    assert picture_file(tmp_path / "in", "a", "NAME").name == "a.png"
    with pytest.raises(ValueError, match="outside"):
        picture_file(tmp_path / "in", "../in2/a", "NAME")
    with pytest.raises(ValueError, match=r"'b\.png' is missing"):
        picture_file(tmp_path / "in", "b.png", "NAME")
