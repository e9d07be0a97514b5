"""Claims about PLY: the layout of 3DGS byte by byte, any order back, meshes with colour."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from roundview.export.ply import is_splats, load_ply, load_splats, save_ply, save_splats
from roundview.gaussians import Gaussians
from roundview.mesh import Mesh

FIELDS = ("centre", "log_scale", "quat_wxyz", "opacity_logit", "sh")


def random_gaussians(count: int, coefficients: int) -> Gaussians:
    rng = torch.Generator().manual_seed(count + coefficients)
    return Gaussians(
        torch.randn(count, 3, generator=rng),
        torch.randn(count, 3, generator=rng),
        torch.randn(count, 4, generator=rng),
        torch.randn(count, generator=rng),
        torch.randn(count, coefficients, 3, generator=rng),
    )


def one_gaussian() -> Gaussians:
    """Every number differs, so that a swap would show; sh[k, channel] = 10 k + channel."""
    sh = torch.tensor([[[10.0 * k + channel for channel in range(3)] for k in range(4)]])
    return Gaussians(
        torch.tensor([[1.0, 2.0, 3.0]]),
        torch.tensor([[-1.0, -2.0, -3.0]]),
        torch.tensor([[0.5, 0.25, 0.125, 0.0625]]),
        torch.tensor([7.0]),
        sh,
    )


def test_one_gaussian_is_these_bytes(tmp_path: Path) -> None:
    """The layout of the 3DGS release: x y z, normals, dc, rest by channel, opacity, scale, rot."""
    save_splats(one_gaussian(), tmp_path / "g.ply")
    header, body = (tmp_path / "g.ply").read_bytes().split(b"end_header\n", 1)
    names = [line.split()[2].decode() for line in header.splitlines() if b"property" in line]
    assert names == [
        *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"),
        *(f"f_rest_{i}" for i in range(9)),
        *("opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
    ]
    assert header.startswith(b"ply\nformat binary_little_endian 1.0\nelement vertex 1\n")
    assert struct.unpack("<26f", body) == (
        *(1, 2, 3, 0, 0, 0),
        *(0, 1, 2),
        *(10, 20, 30, 11, 21, 31, 12, 22, 32),  # all of red, then green, then blue
        *(7, -1, -2, -3, 0.5, 0.25, 0.125, 0.0625),
    )


@pytest.mark.parametrize("coefficients", [1, 4, 9, 16])
@pytest.mark.parametrize("count", [0, 1, 50])
def test_splats_return(count: int, coefficients: int, tmp_path: Path) -> None:
    gaussians = random_gaussians(count, coefficients)
    save_splats(gaussians, tmp_path / "g.ply")
    got = load_splats(tmp_path / "g.ply")
    if count == 0:
        assert len(got) == 0
        return
    for field in FIELDS:
        assert torch.equal(getattr(got, field), getattr(gaussians, field)), field


def test_the_same_splats_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.ply", "b.ply"):
        save_splats(random_gaussians(9, 4), tmp_path / name)
    assert (tmp_path / "a.ply").read_bytes() == (tmp_path / "b.ply").read_bytes()


@pytest.mark.parametrize("order", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_properties_may_come_in_any_order_and_kind(order: str, tmp_path: Path) -> None:
    names = ["rot_3", "rot_0", "rot_1", "rot_2", "opacity", "extra", "z", "x", "y"]
    names += ["scale_2", "scale_1", "scale_0", "f_dc_2", "f_dc_0", "f_dc_1"]
    values = [0.0625, 0.5, 0.25, 0.125, 7, 99, 3, 1, 2, -3, -2, -1, 2, 0, 1]
    header = f"ply\nformat {order} 1.0\ncomment by hand\nelement vertex 1\n"
    header += "".join(f"property double {name}\n" for name in names) + "end_header\n"
    if order == "ascii":
        body = " ".join(map(str, values)).encode() + b"\n"
    else:
        body = struct.pack(("<" if "little" in order else ">") + "15d", *values)
    (tmp_path / "g.ply").write_bytes(header.encode() + body)
    got, wanted = load_splats(tmp_path / "g.ply"), one_gaussian()
    for field in FIELDS[:4]:
        assert torch.equal(getattr(got, field), getattr(wanted, field)), field
    assert torch.equal(got.sh, wanted.sh[:, :1])


def coloured_square() -> Mesh:
    return Mesh(
        torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]),
        torch.tensor([[0, 1, 2], [0, 2, 3]]),
        vertex_rgb=torch.tensor([[0, 0, 0], [255, 0, 51], [0, 255, 0], [0, 0, 255]]) / 255,
    )


def test_coloured_meshes_return(tmp_path: Path) -> None:
    save_ply(coloured_square(), tmp_path / "m.ply")
    got, wanted = load_ply(tmp_path / "m.ply"), coloured_square()
    assert torch.equal(got.vertices, wanted.vertices)
    assert torch.equal(got.faces, wanted.faces)
    assert got.vertex_rgb is not None
    torch.testing.assert_close(got.vertex_rgb, wanted.vertex_rgb)
    assert not is_splats(tmp_path / "m.ply")


def test_point_clouds_return(tmp_path: Path) -> None:
    cloud = Mesh(torch.rand(5, 3), torch.zeros(0, 3, dtype=torch.int64))
    save_ply(cloud, tmp_path / "p.ply")
    got = load_ply(tmp_path / "p.ply")
    assert torch.equal(got.vertices, cloud.vertices)
    assert got.faces.shape == (0, 3)
    assert got.vertex_rgb is None


def test_polygons_become_fans(tmp_path: Path) -> None:
    header = "ply\nformat ascii 1.0\nelement vertex 5\nproperty float x\nproperty float y\n"
    header += "property float z\nelement face 2\nproperty list uchar int vertex_index\nend_header\n"
    body = "0 0 0\n1 0 0\n1 1 0\n0 1 0\n2 2 0\n4 0 1 2 3\n3 2 4 3\n"
    (tmp_path / "m.ply").write_text(header + body)
    assert load_ply(tmp_path / "m.ply").faces.tolist() == [[0, 1, 2], [0, 2, 3], [2, 4, 3]]


def test_what_is_no_splat_file_is_refused(tmp_path: Path) -> None:
    save_ply(coloured_square(), tmp_path / "m.ply")
    with pytest.raises(ValueError, match=r"m\.ply lacks the properties f_dc_0"):
        load_splats(tmp_path / "m.ply")
    bad = random_gaussians(2, 1)
    bad.quat_wxyz[1] = 0
    save_splats(bad, tmp_path / "q.ply")
    with pytest.raises(ValueError, match="rotation of 0, 0, 0, 0"):
        load_splats(tmp_path / "q.ply")
    bad.centre[0, 0] = np.inf
    with pytest.raises(ValueError, match="not finite"):
        save_splats(bad, tmp_path / "i.ply")
    assert not (tmp_path / "i.ply").exists()


def test_five_rest_coefficients_make_no_sense(tmp_path: Path) -> None:
    header = "ply\nformat ascii 1.0\nelement vertex 0\n"
    header += "".join(f"property float f_rest_{i}\n" for i in range(5)) + "end_header\n"
    (tmp_path / "g.ply").write_text(header)
    with pytest.raises(ValueError, match="5 f_rest"):
        load_splats(tmp_path / "g.ply")


def test_plyfile_reads_the_same(tmp_path: Path) -> None:
    plyfile = pytest.importorskip("plyfile", reason="pip install plyfile")
    gaussians = random_gaussians(20, 4)
    save_splats(gaussians, tmp_path / "g.ply")
    vertex = plyfile.PlyData.read(str(tmp_path / "g.ply"))["vertex"]
    for names, values in (
        (("x", "y", "z"), gaussians.centre),
        (("rot_0", "rot_1", "rot_2", "rot_3"), gaussians.quat_wxyz),
        (("f_rest_0", "f_rest_1", "f_rest_2"), gaussians.sh[:, 1:, 0]),
        (("opacity",), gaussians.opacity_logit[:, None]),
    ):
        np.testing.assert_array_equal(np.stack([vertex[name] for name in names], -1), values)
