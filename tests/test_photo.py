"""Every format comes in upright and in the right colours; every bad file is refused in one line."""

import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bad_inputs import write_all
from PIL import Image as PilImage
from PIL import ImageCms

from roundview.photo import MAX_SIDE_PX, PhotoError, load_image, load_mask
from roundview.segment import NoObjectError, matte_from_alpha, whole_picture

RED, GREEN, BLUE, GREY = (220, 30, 40), (20, 180, 60), (30, 60, 200), (128, 128, 128)


def quadrants(width: int = 64, height: int = 48) -> PilImage.Image:
    """Red, green / blue, grey: no turn or flip of it is itself."""
    picture = PilImage.new("RGB", (width, height), GREY)
    picture.paste(RED, (0, 0, width // 2, height // 2))
    picture.paste(GREEN, (width // 2, 0, width, height // 2))
    picture.paste(BLUE, (0, height // 2, width // 2, height))
    return picture


def corners(rgb: torch.Tensor) -> torch.Tensor:
    """The colours in the middle of the four quadrants, in steps of 255."""
    h, w = rgb.shape[:2]
    rows, columns = [h // 4, h // 4, 3 * h // 4, 3 * h // 4], [w // 4, 3 * w // 4] * 2
    return rgb[rows, columns] * 255


def assert_quadrants(rgb: torch.Tensor, *, tolerance: float = 0.51) -> None:
    wanted = torch.tensor([RED, GREEN, BLUE, GREY], dtype=torch.float32)
    torch.testing.assert_close(corners(rgb), wanted, atol=tolerance, rtol=0)


@pytest.mark.parametrize(
    ("name", "options", "tolerance"),
    [
        ("a.png", {}, 0.51),
        ("a.jpg", {"quality": 95, "subsampling": 0}, 4),
        ("a.webp", {"lossless": True}, 0.51),
        ("a.tif", {}, 0.51),
        ("packed.tif", {"compression": "tiff_lzw"}, 0.51),
        ("a.bmp", {}, 0.51),
        ("a.gif", {}, 0.51),
    ],
)
def test_formats_give_the_same_colours(
    name: str, options: dict[str, Any], tolerance: float, tmp_path: Path
) -> None:
    picture = quadrants()
    if name.endswith("gif"):
        picture = picture.quantize(8)
    picture.save(tmp_path / name, **options)
    image = load_image(tmp_path / name)
    assert image.size_hw == (48, 64)
    assert image.alpha is None
    assert image.rgb.dtype == torch.float32
    assert_quadrants(image.rgb, tolerance=tolerance)


def test_the_format_is_known_by_content_not_by_name(tmp_path: Path) -> None:
    quadrants().save(tmp_path / "really_png.jpg", format="PNG")
    assert_quadrants(load_image(tmp_path / "really_png.jpg").rgb)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "packed.tif"])
def test_orientation_is_undone(name: str, orientation: int, tmp_path: Path) -> None:
    turns = PilImage.Transpose
    # How a camera stores an upright picture under each tag: the inverse of what a viewer does.
    stored = {
        2: turns.FLIP_LEFT_RIGHT,
        3: turns.ROTATE_180,
        4: turns.FLIP_TOP_BOTTOM,
        5: turns.TRANSPOSE,
        6: turns.ROTATE_90,
        7: turns.TRANSVERSE,
        8: turns.ROTATE_270,
    }
    picture = quadrants()
    if orientation > 1:
        picture = picture.transpose(stored[orientation])
    exif = PilImage.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"exif": exif.tobytes()}
    if name == "a.jpg":
        options |= {"quality": 95, "subsampling": 0}
    if name == "packed.tif":
        options |= {"compression": "tiff_lzw"}
    if name == "a.webp":
        options |= {"lossless": True}
    picture.save(tmp_path / name, **options)
    image = load_image(tmp_path / name)
    assert image.size_hw == (48, 64)
    assert_quadrants(image.rgb, tolerance=4 if name == "a.jpg" else 0.51)


def test_broken_exif_is_no_reason_to_refuse(tmp_path: Path) -> None:
    quadrants().save(tmp_path / "a.png", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xffgarbage")
    assert_quadrants(load_image(tmp_path / "a.png").rgb)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "RGBA", "LA", "PA", "YCbCr", "I;16", "I"])
def test_modes_come_in_as_rgb(mode: str, tmp_path: Path) -> None:
    grey = quadrants().convert("L")
    if mode == "I;16":
        picture = PilImage.fromarray(np.asarray(grey, np.uint16) * 257)
    elif mode == "I":
        picture = PilImage.fromarray(np.asarray(grey, np.int32) * 257)
    else:
        picture = grey.convert(mode) if mode in ("1", "L", "LA") else quadrants().convert(mode)
    file_format = {"PA": "TIFF", "CMYK": "TIFF", "YCbCr": "JPEG", "I": "TIFF"}.get(mode, "PNG")
    if mode == "PA":
        picture = quadrants().quantize(8).convert("PA")
    if mode == "P":
        picture = quadrants().quantize(8)
    picture.save(tmp_path / "picture", format=file_format, quality=95, subsampling=0)
    image = load_image(tmp_path / "picture")
    assert image.alpha is None
    if mode == "1":
        assert set(image.rgb.unique().tolist()) == {0.0, 1.0}
    elif mode in ("L", "LA", "I;16", "I"):
        wanted = torch.from_numpy(np.asarray(grey, np.float32) / 255)[..., None].expand(-1, -1, 3)
        torch.testing.assert_close(image.rgb, wanted)
    else:
        assert_quadrants(image.rgb, tolerance=4 if mode == "YCbCr" else 1.5)


def test_sixteen_bits_are_kept(tmp_path: Path) -> None:
    steps = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    PilImage.fromarray(steps).save(tmp_path / "fine.png")
    rgb = load_image(tmp_path / "fine.png").rgb
    torch.testing.assert_close(rgb[..., 0], torch.from_numpy(steps.astype(np.float32)) / 65535)


@pytest.mark.parametrize(("top", "divisor"), [(1.0, 1), (200.0, 255), (40000.0, 65535), (1e6, 1e6)])
def test_float_pictures_are_scaled_by_their_range(
    top: float, divisor: float, tmp_path: Path
) -> None:
    values = np.linspace(-0.1, 1, 64 * 64, dtype=np.float32).reshape(64, 64) * np.float32(top)
    PilImage.fromarray(values).save(tmp_path / "f.tif")
    rgb = load_image(tmp_path / "f.tif").rgb
    torch.testing.assert_close(rgb[..., 1], torch.from_numpy(values.clip(0) / np.float32(divisor)))


def test_alpha_is_kept_only_if_it_tells_something(tmp_path: Path) -> None:
    cut_out = quadrants().convert("RGBA")
    cut_out.paste((9, 9, 9, 0), (0, 0, 32, 48))
    cut_out.save(tmp_path / "cut.png")
    quadrants().convert("RGBA").save(tmp_path / "opaque.png")
    image = load_image(tmp_path / "cut.png")
    assert image.alpha is not None
    assert image.alpha[:, :32].max() == 0
    assert image.alpha[:, 32:].min() == 1
    # Straight colour: what lies under alpha 0 is not darkened.
    torch.testing.assert_close(corners(image.rgb)[1], torch.tensor(GREEN, dtype=torch.float32))
    assert load_image(tmp_path / "opaque.png").alpha is None


def test_transparency_of_palettes_and_keys_becomes_alpha(tmp_path: Path) -> None:
    palette = PilImage.new("P", (64, 64), 0)
    palette.putpalette([0, 0, 0, *RED])
    palette.paste(1, (16, 16, 48, 48))
    palette.save(tmp_path / "palette.gif", transparency=0)
    keyed = PilImage.new("RGB", (64, 64), (255, 0, 255))
    keyed.paste(RED, (16, 16, 48, 48))
    keyed.save(tmp_path / "keyed.png", transparency=(255, 0, 255))
    wanted = torch.zeros(64, 64)
    wanted[16:48, 16:48] = 1
    for name in ("palette.gif", "keyed.png"):
        image = load_image(tmp_path / name)
        assert image.alpha is not None
        torch.testing.assert_close(image.alpha, wanted)
        torch.testing.assert_close(image.rgb[32, 32] * 255, torch.tensor(RED).float())


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tif"])
def test_animations_give_their_first_frame(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = quadrants(), PilImage.new("RGB", (64, 48), (0, 0, 0))
    options: dict[str, Any] = {"lossless": True} if name == "a.webp" else {}
    frames = [f.quantize(8) if name == "a.gif" else f for f in (first, second)]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
    with caplog.at_level(logging.WARNING):
        assert_quadrants(load_image(tmp_path / name).rgb)
    assert "the first is used" in caplog.text


def test_large_pictures_are_reduced_and_keep_their_shape(tmp_path: Path) -> None:
    quadrants(3000, 1500).save(tmp_path / "large.png")
    image = load_image(tmp_path / "large.png")
    assert image.size_hw == (MAX_SIDE_PX // 2, MAX_SIDE_PX)
    assert_quadrants(image.rgb)


def test_reducing_does_not_mix_hidden_colours_in(tmp_path: Path) -> None:
    picture = PilImage.new("RGBA", (3000, 64), (0, 255, 0, 0))
    picture.paste((255, 0, 0, 255), (1000, 0, 2001, 64))
    picture.save(tmp_path / "long.png")
    image = load_image(tmp_path / "long.png")
    assert image.alpha is not None
    assert float(image.rgb[image.alpha > 0.1][:, 1].max()) < 0.02


@pytest.mark.parametrize("size", [(2301, 160), (160, 2301)])
def test_strips_leave_no_seams(
    size: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    PilImage.fromarray(noise).save(tmp_path / "noise.png")
    whole = load_image(tmp_path / "noise.png")
    monkeypatch.setattr("roundview.photo._STRIP_ROWS", 7)
    strips = load_image(tmp_path / "noise.png")
    assert whole.alpha is not None
    assert strips.alpha is not None
    assert torch.equal(strips.rgb, whole.rgb)
    assert torch.equal(strips.alpha, whole.alpha)


def test_embedded_profiles_are_converted_to_srgb(tmp_path: Path) -> None:
    lab = ImageCms.createProfile("LAB")
    srgb = ImageCms.createProfile("sRGB")
    to_lab = ImageCms.buildTransform(srgb, lab, "RGB", "LAB")
    in_lab = ImageCms.applyTransform(quadrants(), to_lab)
    assert in_lab is not None
    in_lab.save(tmp_path / "lab.tif")
    # 8-bit LAB is coarse in saturated colours: a step of it is several of sRGB's.
    assert_quadrants(load_image(tmp_path / "lab.tif").rgb, tolerance=10)

    profile = _profile_with_swapped_primaries()
    quadrants().save(tmp_path / "swapped.png", icc_profile=profile)
    # Full red under a profile whose red primary is sRGB's green is green.
    seen = corners(load_image(tmp_path / "swapped.png").rgb)[0]
    assert seen[1] > 200
    assert seen[0] < 60


def _profile_with_swapped_primaries() -> bytes:
    """A profile of sRGB with red and green primaries exchanged, under another name."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = data.replace(b"rXYZ", b"tmp_", 1).replace(b"gXYZ", b"rXYZ", 1)
    swapped = swapped.replace(b"tmp_", b"gXYZ", 1)
    return swapped.replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))


@pytest.mark.parametrize("profile", [b"no profile at all", b"\x00" * 200])
def test_broken_profiles_are_ignored_with_a_note(
    profile: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    quadrants().save(tmp_path / "a.png", icc_profile=profile)
    with caplog.at_level(logging.WARNING):
        assert_quadrants(load_image(tmp_path / "a.png").rgb)
    assert "profile" in caplog.text


def test_profiles_of_other_colour_spaces_are_ignored(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = profile.replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))
    quadrants().convert("L").save(tmp_path / "grey.png", icc_profile=swapped)
    wanted = np.asarray(quadrants().convert("L"), np.float32)[0, 0]
    assert float(load_image(tmp_path / "grey.png").rgb[0, 0, 0]) * 255 == pytest.approx(wanted)


def test_every_bad_input_is_refused_in_one_line(tmp_path: Path) -> None:
    paths = write_all(tmp_path)
    assert len(paths) >= 60
    assert len(set(paths)) == len(paths)
    sound = {
        "white.png",
        "black.jpg",
        "grey.bmp",
        "ramp.png",
        "chess.png",
        "static.png",
        "speck.png",
    }
    for path in paths:
        if path.name in sound:
            load_image(path)
            continue
        with pytest.raises(PhotoError) as caught:
            load_image(path)
        message = str(caught.value)
        assert "\n" not in message
        assert ascii(path.name)[1:-1] in message
        assert len(message.removeprefix(str(path))) < 200, message


def test_unreadable_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quadrants().save(tmp_path / "locked.png")

    def locked(*_: object, **__: object) -> io.BufferedReader:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", locked)
    with pytest.raises(PhotoError, match=r"locked\.png: may not be read"):
        load_image(tmp_path / "locked.png")


def test_the_limit_is_checked_before_decoding(tmp_path: Path) -> None:
    # 64 megapixels and one column more, of zeros that compress to nothing.
    path = tmp_path / "just_over.png"
    PilImage.new("1", (8001, 8000)).save(path)
    # Break the pixels: whoever decodes them finds the file damaged, not too large.
    data = path.read_bytes()
    start = data.index(b"IDAT") + 4
    path.write_bytes(data[:start] + bytes(100) + data[start + 100 :])
    with pytest.raises(PhotoError, match="at most 64 are read"):
        load_image(path)


def test_a_missing_object_in_a_sound_picture_is_the_mattes_matter(tmp_path: Path) -> None:
    write_all(tmp_path)
    with pytest.raises(NoObjectError, match="10x10"):
        matte_from_alpha(load_image(tmp_path / "speck.png"))


def test_masks_are_read_at_the_photographs_size(tmp_path: Path) -> None:
    mask = PilImage.new("L", (128, 96), 0)
    mask.paste(255, (32, 24, 96, 72))
    mask.save(tmp_path / "mask.png")
    got = load_mask(tmp_path / "mask.png", (48, 64))
    assert got.shape == (48, 64)
    assert got[24, 32] == 1
    assert got[4, 4] == 0
    assert float(got.mean()) == pytest.approx(0.25, abs=0.01)


def test_masks_may_be_alpha_or_hold_ones(tmp_path: Path) -> None:
    ones = np.zeros((48, 64), np.uint8)
    ones[12:36, 16:48] = 1
    PilImage.fromarray(ones).save(tmp_path / "ones.png")
    alpha = quadrants().convert("RGBA")
    alpha.putalpha(PilImage.fromarray(ones * 255))
    alpha.save(tmp_path / "alpha.png")
    for name in ("ones.png", "alpha.png"):
        got = load_mask(tmp_path / name, (48, 64))
        torch.testing.assert_close(got, torch.from_numpy(ones.astype(np.float32)))


def test_masks_of_another_shape_or_empty_are_refused(tmp_path: Path) -> None:
    PilImage.new("L", (64, 64), 255).save(tmp_path / "square.png")
    PilImage.new("L", (64, 48), 0).save(tmp_path / "empty.png")
    with pytest.raises(PhotoError, match="64x64 but the photograph 64x48"):
        load_mask(tmp_path / "square.png", (48, 64))
    with pytest.raises(PhotoError, match="empty"):
        load_mask(tmp_path / "empty.png", (48, 64))


def test_an_opaque_photo_can_be_used_whole(tmp_path: Path) -> None:
    quadrants().save(tmp_path / "a.png")
    assert whole_picture(load_image(tmp_path / "a.png")).alpha.min() == 1
