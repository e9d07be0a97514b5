"""A disk that is full, or that cannot be written: a clear failure, and what was there stays."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from fakes import block

from roundview.batch.manifest import Manifest
from roundview.cli import run
from roundview.export import save_asset
from roundview.export.glb import save_glb
from roundview.export.transforms import save_views
from roundview.mesh import Asset
from roundview.train.checkpoints import load_checkpoint, save_checkpoint
from roundview.weights import Card, digest_of, load_tensors, save_weights

from .sound import KINDS
from .victims import make


@contextmanager
def full_disk(free_bytes: int) -> Iterator[None]:
    """Let no file grow beyond some bytes; the system answers as it does when a disk is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


@pytest.fixture(scope="module")
def asset() -> Asset:
    return Asset(block(), record={"seed": 0})


def test_an_asset_that_does_not_fit_leaves_the_earlier_one(
    asset: Asset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roundview.export.asset._TURNTABLE_FRAMES", 2)
    save_asset(asset, tmp_path / "out")
    before = contents(tmp_path / "out")
    for free_bytes in (0, 500, 3000):
        with full_disk(free_bytes), pytest.raises((OSError, ValueError)) as caught:
            save_asset(Asset(block(0.9), record={"seed": 1}), tmp_path / "out")
        assert str(caught.value)
        assert contents(tmp_path / "out") == before
        with full_disk(free_bytes), pytest.raises((OSError, ValueError)):
            save_asset(asset, tmp_path / "new")
        assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_stages_that_do_not_fit_stop_the_run_and_it_goes_on_later(tmp_path: Path) -> None:
    with full_disk(20_000), pytest.raises(Exception, match=r"(?i)file too large|i/o error"):
        make(tmp_path)
    assert not (tmp_path / "asset" / "asset.glb").exists()
    make(tmp_path)
    assert (tmp_path / "asset" / "asset.glb").exists()


def test_weights_and_checkpoints_that_do_not_fit_leave_the_earlier_ones(tmp_path: Path) -> None:
    card = Card("w", "orbit", "w.safetensors", "", "MIT", "a test", folder=tmp_path)
    save_weights({"a": torch.ones(2000)}, card)
    save_checkpoint({"step": 1}, tmp_path / "c.pt")
    before = contents(tmp_path)
    with full_disk(1000):
        with pytest.raises(OSError, match="too large"):
            save_weights({"a": torch.zeros(2000)}, card)
        with pytest.raises((OSError, RuntimeError)):
            save_checkpoint({"step": 2, "a": torch.zeros(2000)}, tmp_path / "c.pt")
    after = contents(tmp_path)
    after.pop("c.tmp", None)
    assert after == before
    sealed = Card(**{**vars(card), "sha256": digest_of(tmp_path / "w.safetensors")})
    assert load_tensors(sealed)["a"].sum() == 2000
    assert load_checkpoint(tmp_path / "c.pt")["step"] == 1


def test_views_that_do_not_fit_leave_nothing(tmp_path: Path) -> None:
    for name, data in KINDS["transforms"].folders()[0].items():
        (tmp_path / name).write_bytes(data)
    views = KINDS["transforms"].read(tmp_path)
    with full_disk(50), pytest.raises(OSError, match="too large"):
        save_views(views, tmp_path / "out")  # pyright: ignore[reportArgumentType]  they are views
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no file system here refuses root")
def test_folders_that_cannot_be_written_are_told_in_one_line(
    asset: Asset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="cannot make the folder"):
        save_asset(asset, "/proc/roundview")
    with pytest.raises(ValueError, match="cannot use"):
        Manifest(Path("/proc/roundview"), "asked")
    save_glb(block(), tmp_path / "a.glb")
    assert run(["export", str(tmp_path / "a.glb"), "-o", "/proc/roundview.obj"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
