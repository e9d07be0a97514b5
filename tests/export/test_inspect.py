"""Claims about inspection: overlap worked by hand, and files that tell what is in them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from roundview.export.glb import save_glb
from roundview.export.inspect import inspect, load_mesh, uv_overlap, validate_glb
from roundview.export.obj import save_obj
from roundview.export.ply import save_ply, save_splats
from roundview.export.spz import save_spz
from roundview.export.web_splat import save_splat
from roundview.gaussians import Gaussians
from roundview.mesh import Mesh, Texture


def flat(uv: list[list[float]], faces: list[list[int]]) -> Mesh:
    return Mesh(torch.rand(len(uv), 3), torch.tensor(faces), torch.tensor(uv))


def tetrahedron() -> Mesh:
    vertices = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    faces = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    uv = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    return Mesh(vertices, faces, uv, Texture(torch.rand(8, 16, 3)))


SQUARE = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]


@pytest.mark.parametrize("size", [1, 7, 64, 300])
def test_neighbours_do_not_overlap(size: int) -> None:
    """The diagonal runs through texel centres, which must not count twice."""
    mesh = flat(SQUARE, [[0, 1, 2], [0, 2, 3]])
    assert uv_overlap(mesh, size_hw=(size, size)) == 0.0


def test_a_triangle_over_half_the_square_overlaps_there() -> None:
    """The square without its diagonal covers 64^2 - 64 texels; the second copy of a half, half."""
    mesh = flat(SQUARE, [[0, 1, 2], [0, 2, 3], [0, 1, 2]])
    assert uv_overlap(mesh, size_hw=(64, 64)) == 0.5


def test_turned_faces_count_like_others() -> None:
    mesh = flat(SQUARE, [[0, 1, 2], [2, 1, 0]])
    assert uv_overlap(mesh, size_hw=(32, 32)) == 1.0


def test_small_faces_far_apart_do_not_overlap() -> None:
    """A grid of 30 x 30 triangles, each in its own cell."""
    uv, faces = [], []
    for row in range(30):
        for column in range(30):
            x, y = column / 30, row / 30
            faces.append([len(uv), len(uv) + 1, len(uv) + 2])
            uv += [[x, y], [x + 0.03, y], [x, y + 0.03]]
    assert uv_overlap(flat(uv, faces), size_hw=(512, 256)) == 0.0


def test_coordinates_outside_the_texture_cover_nothing() -> None:
    mesh = flat([[2.0, 2.0], [3.0, 2.0], [2.0, 3.0]], [[0, 1, 2], [0, 1, 2]])
    assert uv_overlap(mesh, size_hw=(16, 16)) == 0.0
    with pytest.raises(ValueError, match="no texture coordinates"):
        uv_overlap(Mesh(mesh.vertices, mesh.faces), size_hw=(16, 16))


def shared_texels(mesh: Mesh, size_hw: tuple[int, int]) -> float:
    """The overlap as it is defined: every texel's centre against every triangle."""
    h, w = size_hw
    assert mesh.uv is not None
    corners = mesh.uv.double()[mesh.faces] * torch.tensor([w, h])
    y, x = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
    count = torch.zeros(h, w)
    for triangle in corners:
        sides = []
        for a, b in zip(triangle, triangle.roll(-1, dims=0), strict=True):
            slack = 1e-4 * (b - a).abs().sum()
            side = (b - a)[0] * (y - a[1]) - (b - a)[1] * (x - a[0])
            sides.append((side > slack).int() - (side < -slack).int())
        count += torch.stack(sides).sum(dim=0).abs() == 3
    return float((count > 1).sum() / (count > 0).sum().clamp(min=1))


@pytest.mark.parametrize("tiles", [0.3, 1.0, 30.0, 3000.0])
@pytest.mark.parametrize(("texels", "spans"), [(1 << 20, 200_000), (90, 7)])
def test_overlap_is_what_it_says_wherever_coordinates_lie(
    tiles: float, texels: int, spans: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steep, flat and slanted triangles on and off the texture; at once, and in small parts."""
    monkeypatch.setattr("roundview.export.inspect._BAND_TEXELS", texels)
    monkeypatch.setattr("roundview.export.inspect._SPANS", spans)
    rng = torch.Generator().manual_seed(int(tiles))
    some_overlap = 0
    for faces in (3, 12, 40):
        uv = (torch.rand(3 * faces, 2, generator=rng) - 0.4) * tiles
        uv[::4] = (uv[::4] * 8).round() / 8  # Edges along rows, columns and through centres.
        uv[1::5, 1] = uv[::5, 1][: len(uv[1::5])]
        mesh = flat(uv.tolist(), torch.arange(3 * faces).reshape(-1, 3).tolist())
        expected = shared_texels(mesh, (23, 41))
        assert uv_overlap(mesh, size_hw=(23, 41)) == pytest.approx(expected, abs=1e-7)
        some_overlap += expected > 0
    assert some_overlap


@pytest.mark.parametrize("suffix", ["glb", "obj", "ply"])
def test_a_tetrahedron_is_whole(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{suffix}"
    {"glb": save_glb, "obj": save_obj, "ply": save_ply}[suffix](tetrahedron(), path)
    found = inspect(path)
    assert found["format"] == suffix
    assert (found["faces"], found["vertices"], found["shells"]) == (4, 4, 1)
    assert found["watertight"] is True
    assert (found["degenerate_faces"], found["non_manifold_edges"]) == (0, 0)
    assert found["bounds"] == [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]
    if suffix == "ply":  # PLY of ours has no texture
        assert (found["texture_size"], found["uv_overlap"]) == (None, None)
    else:
        assert found["texture_size"] == [16, 8]
        # Faces 0 and 3 cover the lower half each; 1 and 2 are lines in the texture.
        assert found["uv_overlap"] == 1.0


def test_splats_are_counted(tmp_path: Path) -> None:
    centre = torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]])
    quat, sh = torch.ones(2, 4), torch.zeros(2, 4, 3)
    save_splats(Gaussians(centre, torch.zeros(2, 3), quat, torch.zeros(2), sh), tmp_path / "s.ply")
    assert inspect(tmp_path / "s.ply") == {
        "format": "splats",
        "gaussians": 2,
        "sh_degree": 1,
        "bounds": [[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]],
    }


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"not a \.glb, \.obj, .* or \.spz"):
        load_mesh(tmp_path / "x.fbx")


def test_the_validator_finds_errors(tmp_path: Path) -> None:
    save_glb(tetrahedron(), tmp_path / "x.glb")
    if validate_glb(tmp_path / "x.glb") is None:
        pytest.skip("gltf-validator is not installed (npm install --no-save gltf-validator)")
    data = (tmp_path / "x.glb").read_bytes()
    (tmp_path / "bad.glb").write_bytes(data.replace(b'"max":[1.0,', b'"max":[2.0,'))
    report = validate_glb(tmp_path / "bad.glb")
    assert report is not None
    assert report["errors"] == 1
    assert report["messages"][0]["code"] == "ACCESSOR_MAX_MISMATCH"
    (tmp_path / "text.glb").write_text("hello, this is not a GLB at all")
    with pytest.raises(ValueError, match=r"text\.glb"):
        validate_glb(tmp_path / "text.glb")


def test_without_the_validator_nothing_is_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_glb(tetrahedron(), tmp_path / "x.glb")
    monkeypatch.setenv("ROUNDVIEW_GLTF_VALIDATOR", str(tmp_path / "nowhere"))
    assert validate_glb(tmp_path / "x.glb") is None
    assert inspect(tmp_path / "x.glb")["validator"] is None


@pytest.mark.parametrize("save", [save_splats, save_splat, save_spz])
def test_splats_are_described_in_any_format(
    save: Callable[[Gaussians, Path], None], tmp_path: Path
) -> None:
    suffix = {"save_splats": ".ply", "save_splat": ".splat", "save_spz": ".spz"}[save.__name__]
    cloud = Gaussians(
        torch.tensor([[0.0, 0, 0], [1, 2, 4]]),
        torch.zeros(2, 3),
        torch.tensor([[1.0, 0, 0, 0]] * 2),
        torch.zeros(2),
        torch.zeros(2, 1, 3),
    )
    save(cloud, tmp_path / f"g{suffix}")
    assert inspect(tmp_path / f"g{suffix}") == {
        "format": "splats",
        "gaussians": 2,
        "sh_degree": 0,
        "bounds": [[0, 0, 0], [1, 2, 4]],
    }
    with pytest.raises(ValueError, match="holds splats, not a mesh"):
        load_mesh(tmp_path / f"g{suffix}")
