from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from roundview.camera import Cameras
from roundview.data.procedural import generated_objects
from roundview.data.solid_set import SolidSet, render_solid_set
from roundview.diffusion.orbit import DISTANCE, FOV_DEG
from roundview.diffusion.shape_head import (
    COLOUR_LAYERS,
    LAYERS,
    REACH,
    SIDE,
    ShapeDecoder,
    ShapeSize,
    upright,
)
from roundview.image import Foreground
from roundview.segment import FRAMING, frame_subject
from roundview.train.loop import LoopSettings
from roundview.train.shape import (
    ShapeBatch,
    ShapeTraining,
    SolidSampler,
    along_rays,
    along_rays_reference,
    framing,
    shape_loss,
    train_shape,
)

TINY = ShapeSize(maps=(3, 3, 3, 3, 3), widths=(8, 8, 32, 8), blocks=(0, 0, 0, 0), attends=1)


class Shrunk:
    """Features that are the picture itself at five sizes."""

    def maps(self, rgb: Tensor) -> list[Tensor]:
        picture = rgb.movedim(-1, 1)
        return [torch.nn.functional.avg_pool2d(picture, 2**k) for k in range(1, 6)]

    def embedding(self, rgb: Tensor) -> Tensor:
        return rgb.mean(dim=(1, 2))


@pytest.fixture(scope="module")
def solids(tmp_path_factory: pytest.TempPathFactory) -> SolidSet:
    return render_solid_set(generated_objects(2, 4), tmp_path_factory.mktemp("solids") / "set")


def drawn(solids: SolidSet, count: int, **changed: float) -> ShapeBatch:
    training = replace(ShapeTraining(), **changed)
    return SolidSampler([solids]).draw(training, Generator().manual_seed(1), count=count)


@pytest.mark.parametrize("mirror", [-1.0, 1.0])
def test_the_kernel_agrees_with_its_reference(solids: SolidSet, mirror: float) -> None:
    camera = Cameras.orbit(
        [130.0], elevation_deg=25.0, radius=DISTANCE, fov_deg=FOV_DEG, size_hw=(1, 1)
    )
    seen = np.ones((16, 16), bool)
    seen[:3] = False
    view = np.array([mirror, 1.3, 0.04, -0.02, float(camera.focal_px[0]), REACH, *upright(30.0)])
    pose = camera.world_from_camera[0].double().numpy()
    told = (solids.fill[0], solids.rgb[0], seen, pose, view, 32, 8)
    for found, wanted in zip(along_rays(*told), along_rays_reference(*told), strict=True):
        assert (found == wanted).mean() > 0.9999  # Rounding decides on cells' borders.
    assert along_rays(*told)[2].any()


def test_rays_of_the_picture_meet_the_solid_and_others_do_not(solids: SolidSet) -> None:
    batch = drawn(solids, 8, blurred=0.0)
    covered = torch.nn.functional.interpolate(batch.rgba[:, 3:], (SIDE, SIDE), mode="area")[:, 0]
    met = (batch.fill > 0).any(dim=1)
    assert batch.fill.shape == (8, LAYERS, SIDE, SIDE)
    assert batch.rgb.shape == (8, 3, COLOUR_LAYERS, SIDE, SIDE)
    # Cells are half as wide as pixels: outlines agree but for their rims.
    assert float(met[covered > 0.95].float().mean()) > 0.97
    assert float((met & (covered < 0.05)).float().mean()) < 0.03


def test_the_first_surface_has_the_pictures_colour(solids: SolidSet) -> None:
    unlit = replace(solids, rgba=solids.rgba.copy())
    batch = drawn(unlit, 8, blurred=0.0)
    covered = torch.nn.functional.interpolate(batch.rgba, (SIDE, SIDE), mode="area")
    first = batch.has_rgb.argmax(dim=1)
    n, y, x = ((covered[:, 3] > 0.99) & (batch.has_rgb > 0).any(dim=1)).nonzero(as_tuple=True)
    seen = covered[n, :3, y, x]
    known = batch.rgb[n, :, first[n, y, x], y, x]
    assert float((seen - known).abs().median()) < 0.12  # Lamps shade the picture, not the solid.


def test_framing_is_that_of_photographs() -> None:
    alpha = torch.zeros(128, 128)
    alpha[20:60, 50:70] = 1
    found = framing(alpha.numpy())
    assert found is not None
    zoom, across, down = found
    assert zoom == pytest.approx(FRAMING * 128 / 40)
    framed = frame_subject(Foreground(torch.zeros(128, 128, 3), alpha), size_px=128)
    rows = (framed.alpha > 0.5).any(dim=1).nonzero()
    assert len(rows) == pytest.approx(40 * zoom, abs=1.5)
    assert (across, down) == pytest.approx((60 / 128 - 0.5, 40 / 128 - 0.5))
    assert framing(np.zeros((8, 8))) is None


def test_threads_do_not_change_what_is_drawn(solids: SolidSet) -> None:
    before = torch.get_num_threads()
    batches = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            batches.append(drawn(solids, 5))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(batches[0].rgba, batches[1].rgba)
    assert torch.equal(batches[0].fill, batches[1].fill)


def test_the_true_solid_costs_least(solids: SolidSet) -> None:
    batch = drawn(solids, 4, blurred=0.0)
    small = torch.nn.functional.interpolate(batch.rgba, (SIDE, SIDE), mode="area")
    truth = (batch.fill.float() - 1) * 20
    rgb = (batch.rgb - small[:, :3, None]) * batch.has_rgb[:, None]
    right = float(shape_loss(truth, rgb, small, batch))
    empty = float(shape_loss(torch.full_like(truth, -20.0), rgb, small, batch))
    grey = float(shape_loss(truth, torch.zeros_like(rgb), small, batch))
    assert right < 0.5 * empty
    assert right < grey


def test_a_decoder_learns(solids: SolidSet, tmp_path: Path) -> None:
    torch.manual_seed(0)
    decoder, batch = ShapeDecoder(TINY), drawn(solids, 8)
    small = torch.nn.functional.interpolate(batch.rgba, (SIDE, SIDE), mode="area")

    def loss() -> float:
        maps = Shrunk().maps(batch.rgba[:, :3].movedim(1, -1))
        with torch.no_grad():
            solid, rgb = decoder(maps, small, batch.elevation_deg)
        return float(shape_loss(solid, rgb, small, batch))

    before = loss()
    settings = LoopSettings(steps=12, learning_rate=1e-2, warmup=2, ema=0.5)
    training = ShapeTraining(batch=4)
    sampler = SolidSampler([solids])
    train_shape(decoder, Shrunk(), sampler, tmp_path, training=training, settings=settings)
    assert loss() < before - 0.3


def test_no_objects_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no objects"):
        SolidSampler([render_solid_set([], tmp_path / "none")])
