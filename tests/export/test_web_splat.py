"""Claims about .splat: its 32 bytes, its order, its rounding; others read what we write."""

import csv
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from roundview.export.web_splat import load_splat, save_splat
from roundview.gaussians import Gaussians
from roundview.rotation import rotation_from_quat

TRANSFORM = Path("node_modules/@playcanvas/splat-transform/bin/cli.mjs").absolute()


def random_gaussians(count: int, coefficients: int = 1) -> Gaussians:
    rng = torch.Generator().manual_seed(count)
    return Gaussians(
        torch.randn(count, 3, generator=rng),
        torch.randn(count, 3, generator=rng) - 3,
        torch.randn(count, 4, generator=rng),
        2 * torch.randn(count, generator=rng),
        0.5 * torch.randn(count, coefficients, 3, generator=rng),
    )


def one(**changed: torch.Tensor) -> Gaussians:
    fields = {
        "centre": torch.tensor([[1.0, 2.0, 3.0]]),
        "log_scale": torch.tensor([[0.25, 0.5, 4.0]]).log(),
        "quat_wxyz": torch.tensor([[2.0, 0.0, 0.0, -2.0]]),
        "opacity_logit": torch.tensor([0.0]),
        "sh": (torch.tensor([[[1.0, 0.6, 0.0]]]) - 0.5) / 0.28209479177387814,
    }
    return Gaussians(**{**fields, **changed})


def test_one_gaussian_is_these_bytes(tmp_path: Path) -> None:
    save_splat(one(), tmp_path / "g.splat")
    root = round(128 + 128 / 2**0.5)
    wanted = struct.pack("<6f8B", 1, 2, 3, 0.25, 0.5, 4, 255, 153, 0, 128, root, 128, 128, 37)
    assert (tmp_path / "g.splat").read_bytes() == wanted


@pytest.mark.parametrize("count", [0, 1, 60])
def test_splats_return_as_far_as_bytes_go(count: int, tmp_path: Path) -> None:
    gaussians = random_gaussians(count)
    save_splat(gaussians, tmp_path / "g.splat")
    got = load_splat(tmp_path / "g.splat")
    assert len(got) == count
    if not count:
        return
    order = (gaussians.log_scale.sum(dim=-1) + gaussians.opacity.log()).argsort(descending=True)
    wanted = gaussians[order]
    assert torch.equal(got.centre, wanted.centre)
    torch.testing.assert_close(got.log_scale, wanted.log_scale)
    half = 0.5 / 255 + 1e-6
    torch.testing.assert_close(got.opacity, wanted.opacity, rtol=0, atol=half)
    torch.testing.assert_close(got.base_rgb, wanted.base_rgb.clamp(0, 1), rtol=0, atol=half)
    # Four numbers off by at most 1/256 (the largest 1/128: 256 is no byte), twice in a matrix.
    turned = rotation_from_quat(got.quat_wxyz) - rotation_from_quat(wanted.quat_wxyz)
    assert float(turned.abs().max()) < 4 / 128


def test_the_largest_and_most_solid_comes_first(tmp_path: Path) -> None:
    gaussians = Gaussians(
        torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]]),
        torch.tensor([[-3.0] * 3, [-2.0] * 3, [-2.0] * 3]),
        torch.tensor([[1.0, 0, 0, 0]] * 3),
        torch.tensor([2.0, 0.0, 1.0]),
        torch.zeros(3, 1, 3),
    )
    save_splat(gaussians, tmp_path / "g.splat")
    assert load_splat(tmp_path / "g.splat").centre[:, 0].tolist() == [2, 1, 0]


def test_what_has_no_logarithm_is_kept_finite(tmp_path: Path) -> None:
    row = struct.pack("<6f8B", 0, 0, 0, 0, 1, 1, 0, 0, 0, 255, 255, 128, 128, 128)
    (tmp_path / "g.splat").write_bytes(row)
    got = load_splat(tmp_path / "g.splat")
    assert bool(got.log_scale.isfinite().all())
    assert 0.99 < float(got.opacity) < 1
    save_splat(got, tmp_path / "again.splat")
    assert (tmp_path / "again.splat").read_bytes()[24:] == row[24:]


def test_colour_of_the_view_is_left_out_loudly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_splat(random_gaussians(3, 4), tmp_path / "g.splat")
    assert "depends on the view" in caplog.text
    assert load_splat(tmp_path / "g.splat").sh_degree == 0


@pytest.mark.parametrize(
    ("data", "wrong"),
    [
        (b"x" * 33, "no rows of 32"),
        (struct.pack("<6f8B", *[float("nan")] * 6, *[200] * 8), "make no sense"),
        (struct.pack("<6f8B", 0, 0, 0, -1, 1, 1, *[200] * 8), "make no sense"),
        (struct.pack("<6f8B", 0, 0, 0, 1, 1, 1, *[128] * 8), "rotation of 0, 0, 0, 0"),
    ],
)
def test_broken_files_are_refused(data: bytes, wrong: str, tmp_path: Path) -> None:
    (tmp_path / "g.splat").write_bytes(data)
    with pytest.raises(ValueError, match=wrong):
        load_splat(tmp_path / "g.splat")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"g\.splat: No such file"):
        load_splat(tmp_path / "g.splat")


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not finite"):
        save_splat(one(centre=torch.tensor([[0.0, float("nan"), 0]])), tmp_path / "g.splat")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not TRANSFORM.is_file(), reason="npm install @playcanvas/splat-transform")
def test_another_program_reads_the_same(tmp_path: Path) -> None:
    save_splat(random_gaussians(20), tmp_path / "g.splat")
    got = load_splat(tmp_path / "g.splat")
    theirs = read_elsewhere(tmp_path / "g.splat")
    for name, values in (
        ("xyz", got.centre),
        (("scale_0", "scale_1", "scale_2"), got.log_scale),
        (("f_dc_0", "f_dc_1", "f_dc_2"), got.sh[:, 0]),
        (("opacity",), got.opacity_logit[:, None]),
    ):
        table = np.array([[float(row[key]) for key in name] for row in theirs])
        np.testing.assert_allclose(table, values.numpy(), rtol=1e-4, atol=1e-5)
    quat = np.array([[float(row[f"rot_{i}"]) for i in range(4)] for row in theirs])
    unit = torch.nn.functional.normalize(got.quat_wxyz, dim=-1).numpy()
    # It takes the middle of the byte's range for q = -1 to 1 in 127.5ths, we in 128ths.
    np.testing.assert_allclose(quat, unit, atol=2e-2)


def read_elsewhere(path: Path) -> list[dict[str, str]]:
    """Let PlayCanvas's splat-transform turn a file into a table."""
    node = shutil.which("node")
    assert node is not None
    table = path.with_suffix(".csv")
    command = [node, str(TRANSFORM), "-q", "-w", str(path), str(table)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    with table.open() as file:
        return list(csv.DictReader(file))
