from dataclasses import replace
from pathlib import Path

import pytest
from fakes import KnowingOrbit, KnownElevation, block, photo_of
from PIL import Image as PilImage
from recipes_tiny import TINY

from roundview.batch.making import Making, Wish
from roundview.batch.tasks import Task
from roundview.loaders import Loaded
from roundview.recipes.im3d import Im3dModels
from roundview.segment import PhotoMatte
from roundview.stages import FOLDER

SMALL = replace(
    TINY, fit_steps=30, redraw_after=(15,), mesh_resolution=32, faces=300, texture_size=64
)


@pytest.fixture
def task(tmp_path: Path) -> Task:
    image = photo_of(block())
    assert image.alpha is not None
    rgb = PilImage.fromarray((image.rgb.numpy() * 255).round().astype("uint8"))
    rgb.putalpha(PilImage.fromarray((image.alpha.numpy() * 255).round().astype("uint8")))
    rgb.save(tmp_path / "photo.png")
    return Task(tmp_path / "photo.png", tmp_path / "out" / "photo")


def work(orbit: KnowingOrbit) -> Making:
    models = Im3dModels(PhotoMatte(), orbit, KnownElevation(10.0))
    return Making(Loaded(models, (), "fakes"), SMALL, Wish())


class Breaking(KnowingOrbit):
    """Breaks at its first redrawing."""

    broken = False

    def redraw(self, *given: object, **named: object):  # noqa: ANN201  as the one it stands for
        if not self.broken:
            self.broken = True
            raise RuntimeError("CUDA\nerror")
        return super().redraw(*given, **named)  # pyright: ignore[reportArgumentType]  passed on


def test_a_try_that_failed_goes_on_to_the_same_bytes(task: Task) -> None:
    broken = work(Breaking(block()))
    ended = broken(task)
    assert ended.error == "RuntimeError: CUDA error"
    assert not ended.final
    (task.folder / ".partial.0123").mkdir()  # As a killed process leaves behind.
    assert broken(task).error == ""
    whole = Task(task.photo, task.folder.with_name("whole"))
    orbit = KnowingOrbit(block())
    again = work(orbit)
    assert again(whole).error == ""
    for name in ("asset.glb", "splats.ply"):
        assert (task.folder / name).read_bytes() == (whole.folder / name).read_bytes()
    names = {path.name for path in task.folder.iterdir()}
    assert not {FOLDER, ".partial.0123"} & names
    # What is there is not made again.
    calls = len(orbit.calls)
    assert again(whole).kept
    assert len(orbit.calls) == calls


def test_photos_at_fault_fail_for_good(tmp_path: Path) -> None:
    ended = work(KnowingOrbit(block()))(Task(tmp_path / "missing.png", tmp_path / "out"))
    assert ended.final
    assert ended.error == "there is no such file"
    assert not (tmp_path / "out").exists()


def test_a_wish_is_known_by_all_that_decides_the_asset() -> None:
    wishes = [
        Wish(),
        Wish(seed=1),
        Wish(quality="draft"),
        Wish(use_matte=False),
        Wish(changes={"faces": 7}),
    ]
    assert len({wish.identity() for wish in wishes}) == len(wishes)
    assert Wish().identity() == Wish().identity()
    assert Wish(changes={"faces": 7}).settings().faces == 7


@pytest.mark.parametrize(
    "wish", [Wish(recipe="none"), Wish(quality="best"), Wish(changes={"wings": 2})]
)
def test_wishes_for_nothing_are_refused(wish: Wish) -> None:
    with pytest.raises(ValueError, match=r"unknown|no such setting"):
        wish.settings()
