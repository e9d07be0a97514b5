"""Claims about SPZ: its bytes, its rounding, its frame; Niantic's own code agrees."""

import csv
import gzip
import math
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from roundview.export.ply import load_splats
from roundview.export.spz import load_spz, save_spz
from roundview.gaussians import Gaussians
from roundview.rotation import rotation_from_quat, sh_basis

GOLDEN = Path(__file__).parents[1] / "golden"
TRANSFORM = Path("node_modules/@playcanvas/splat-transform/bin/cli.mjs").absolute()


def random_gaussians(count: int, coefficients: int) -> Gaussians:
    rng = torch.Generator().manual_seed(count + coefficients)
    return Gaussians(
        torch.randn(count, 3, generator=rng),
        torch.randn(count, 3, generator=rng) - 3,
        torch.randn(count, 4, generator=rng),
        2 * torch.randn(count, generator=rng),
        0.3 * torch.randn(count, coefficients, 3, generator=rng),
    )


def assert_close(got: torch.Tensor, wanted: torch.Tensor, within: float) -> None:
    torch.testing.assert_close(got, wanted, rtol=0, atol=within + 1e-6)


def test_one_gaussian_is_these_bytes(tmp_path: Path) -> None:
    sh = torch.zeros(1, 4, 3)
    sh[0, 0] = torch.tensor([0.0, 2.0, -9.0])
    sh[0, 1] = torch.tensor([0.5, 0.0, -7.0])
    gaussian = Gaussians(
        torch.tensor([[1.0, -1.0, 2.0**-16]]),
        torch.tensor([[-10.0, 0.0, 99.0]]),
        torch.tensor([[-3.0, 0.0, 4.0, 0.0]]),  # the same turn as (0.6, 0, -0.8, 0)
        torch.tensor([0.0]),
        sh,
    )
    save_spz(gaussian, tmp_path / "g.spz")
    body = gzip.decompress((tmp_path / "g.spz").read_bytes())
    assert body[:16] == b"NGSP" + struct.pack("<IIBBBB", 2, 1, 1, 16, 0, 0)
    assert list(body[16:]) == [
        *(0, 0, 1, 0, 0, 255, 1, 0, 0),  # 24 bits each, the lowest byte first
        128,
        *(128, 204, 0),  # 0.15 * 255 a unit round 127.5
        *(0, 160, 255),
        *(128, 26, 128),
        *(192, 128, 0, 128, 128, 128, 128, 128, 128),  # red, green, blue of each coefficient
    ]


@pytest.mark.parametrize("coefficients", [1, 4, 9, 16])
@pytest.mark.parametrize("count", [0, 1, 60])
def test_splats_return_within_the_rounding(count: int, coefficients: int, tmp_path: Path) -> None:
    wanted = random_gaussians(count, coefficients)
    save_spz(wanted, tmp_path / "g.spz")
    got = load_spz(tmp_path / "g.spz")
    assert (len(got), got.sh_degree) == (count, wanted.sh_degree)
    assert_close(got.centre, wanted.centre, 2**-17)
    assert_close(got.log_scale, wanted.log_scale, 1 / 32)
    assert_close(got.opacity, wanted.opacity, 0.5 / 255)
    assert_close(got.sh[:, 0], wanted.sh[:, 0], 0.5 / (0.15 * 255))
    inside = wanted.sh[:, 1:].clamp(-1, 1)
    assert_close(got.sh[:, 1:4], inside[:, :3], 1 / 32 + 1 / 128)
    assert_close(got.sh[:, 4:], inside[:, 3:], 1 / 16 + 1 / 128)


def test_rotations_are_off_by_a_few_degrees_at_most(tmp_path: Path) -> None:
    wanted = random_gaussians(500, 1)
    save_spz(wanted, tmp_path / "g.spz")
    turned = rotation_from_quat(load_spz(tmp_path / "g.spz").quat_wxyz).mT @ rotation_from_quat(
        wanted.quat_wxyz
    )
    trace = turned.diagonal(dim1=-2, dim2=-1).sum(dim=-1)
    degrees = torch.rad2deg(((trace - 1) / 2).clamp(-1, 1).acos())
    # x, y, z are off by 1/255. Near w = 0 the error of w is the root of that: 0.1, 12 degrees.
    assert float(degrees.max()) < 12
    assert float(degrees.median()) < 1


def test_far_centres_cost_precision_and_are_refused_beyond_the_range(tmp_path: Path) -> None:
    far = random_gaussians(4, 1)
    for size, within in ((100.0, 2**-17), (1000.0, 2**-14), (8e6, 0.5)):
        moved = Gaussians(
            far.centre / far.centre.abs().max() * size,
            *(far.log_scale, far.quat_wxyz, far.opacity_logit, far.sh),
        )
        save_spz(moved, tmp_path / "g.spz")
        got = load_spz(tmp_path / "g.spz").centre.double()
        assert float((got - moved.centre.double()).abs().max()) <= within
    moved = Gaussians(moved.centre * 2, *(moved.log_scale, moved.quat_wxyz), *_colour(moved))
    with pytest.raises(ValueError, match="beyond what SPZ holds"):
        save_spz(moved, tmp_path / "far.spz")
    assert not (tmp_path / "far.spz").exists()


def _colour(gaussians: Gaussians) -> tuple[torch.Tensor, torch.Tensor]:
    return gaussians.opacity_logit, gaussians.sh


def test_the_same_splats_give_the_same_few_bytes(tmp_path: Path) -> None:
    for name in ("a.spz", "b.spz"):
        save_spz(random_gaussians(200, 16), tmp_path / name)
    data = (tmp_path / "a.spz").read_bytes()
    assert data == (tmp_path / "b.spz").read_bytes()
    assert len(data) < 200 * 62 * 4 / 4  # even of noise, a fourth of a PLY's


def test_what_niantic_wrote_is_read_in_our_frame() -> None:
    """Version 3, whose writer took the PLY for x right, y down, z forward and turned it."""
    ply, got = load_splats(GOLDEN / "spz_v3.ply"), load_spz(GOLDEN / "spz_v3.spz")
    # It may sort them; every Gaussian has a place of its own.
    turn = torch.tensor([1.0, -1.0, -1.0])
    nearest = torch.cdist(ply.centre * turn, got.centre).argmin(dim=1)
    assert sorted(nearest.tolist()) == list(range(len(ply)))
    got = got[nearest]
    assert_close(got.centre, ply.centre * turn, 2**-13)
    assert_close(got.log_scale, ply.log_scale, 1 / 32)
    assert_close(got.opacity, ply.opacity, 0.5 / 255)
    wanted = turn[:, None] * rotation_from_quat(ply.quat_wxyz) * turn
    assert_close(rotation_from_quat(got.quat_wxyz), wanted, 4 / 511)
    # Colour seen along a direction: their coefficients changed sign as the basis does.
    seen = torch.nn.functional.normalize(
        torch.randn(20, 3, generator=torch.Generator().manual_seed(0)), dim=-1
    )
    mine = torch.einsum("dk,gkc->dgc", sh_basis(seen * turn, 3), got.sh)
    theirs = torch.einsum("dk,gkc->dgc", sh_basis(seen, 3), ply.sh)
    # 15 coefficients, each off by up to a 16th.
    assert float((mine - theirs).abs().max()) < math.sqrt(15) / 16
    assert float((mine - theirs).abs().mean()) < 0.05


def packed(data: bytes) -> bytes:
    """Without the time, which would give each worker of a test run other names of the cases."""
    return gzip.compress(data, mtime=0)


@pytest.mark.parametrize(
    ("data", "wrong"),
    [
        (b"NGSP\4\0\0\0" + bytes(30), "version 4 or later"),
        (b"hello, this is no stream", "no whole gzip stream"),
        (packed(b"x" * 40), "not an SPZ file"),
        (packed(b"NGSP"), "not an SPZ file"),
        (packed(b"NGSP" + struct.pack("<IIBBBB", 1, 0, 0, 12, 0, 0)), "SPZ version 1"),
        (packed(b"NGSP" + struct.pack("<IIBBBB", 2, 0, 4, 12, 0, 0)), "degree 4"),
        (packed(b"NGSP" + struct.pack("<IIBBBB", 3, 0, 0, 12, 2, 0)), "extensions"),
        (packed(b"NGSP" + struct.pack("<IIBBBB", 2, 9, 0, 12, 0, 0)), "before all"),
        (packed(b"NGSP" + struct.pack("<IIBBBB", 2, 2**31, 0, 12, 0, 0)), "it claims"),
        (
            packed(b"NGSP" + struct.pack("<IIBBBB", 2, 9, 0, 12, 0, 0) + bytes(171))[:-12],
            "no whole gzip stream",
        ),
    ],
)
def test_broken_files_are_refused(data: bytes, wrong: str, tmp_path: Path) -> None:
    (tmp_path / "g.spz").write_bytes(data)
    with pytest.raises(ValueError, match=wrong):
        load_spz(tmp_path / "g.spz")
    with pytest.raises(ValueError, match="No such file"):
        load_spz(tmp_path / "missing.spz")


def test_a_small_file_cannot_claim_gigabytes(tmp_path: Path) -> None:
    head = struct.pack("<IIIBBBB", 0x5053474E, 2, 2_000_000, 0, 12, 0, 0)
    # All of it is there, as zeros, packed to a thousandth.
    (tmp_path / "g.spz").write_bytes(gzip.compress(head + bytes(2_000_000 * 19), 1))
    with pytest.raises(ValueError, match="before all is told"):
        load_spz(tmp_path / "g.spz")


@pytest.mark.skipif(not TRANSFORM.is_file(), reason="npm install @playcanvas/splat-transform")
def test_niantics_code_reads_the_same(tmp_path: Path) -> None:
    save_spz(random_gaussians(20, 9), tmp_path / "g.spz")
    got = load_spz(tmp_path / "g.spz")
    node = shutil.which("node")
    assert node is not None
    command = [node, str(TRANSFORM), "-q", "-w", str(tmp_path / "g.spz"), str(tmp_path / "g.csv")]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    with (tmp_path / "g.csv").open() as file:
        theirs = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    # It turns what it reads into x right, y down, z forward, as PLY files mostly are.
    turn = np.array([1.0, -1.0, -1.0])
    for names, values in (
        (("x", "y", "z"), got.centre.numpy() * turn),
        (("scale_0", "scale_1", "scale_2"), got.log_scale.numpy()),
        (("f_dc_0", "f_dc_1", "f_dc_2"), got.sh[:, 0].numpy()),
        (("opacity",), got.opacity_logit[:, None].numpy()),
        (("rot_0", "rot_1", "rot_2", "rot_3"), got.quat_wxyz.numpy() * [1, 1, -1, -1]),
    ):
        table = np.array([[row[name] for name in names] for row in theirs])
        np.testing.assert_allclose(table, values, rtol=1e-4, atol=1e-5)
    # Turned: the first coefficient of degree 1, that of -y, has changed its sign.
    red = np.array([[row["f_rest_0"], row["f_rest_1"], row["f_rest_2"]] for row in theirs])
    np.testing.assert_allclose(red, got.sh[:, 1:4, 0].numpy() * [-1, -1, 1], atol=1e-6)
