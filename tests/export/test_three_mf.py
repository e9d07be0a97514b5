"""Claims about 3MF: the rules of its core specification, the size, the colours."""

import io
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
import trimesh
from fakes import block
from PIL import Image as Pillow

from roundview.export.three_mf import save_3mf
from roundview.mesh import Mesh, Texture

CORE = "{http://schemas.microsoft.com/3dmanufacturing/core/2015/02}"
MATERIAL = "{http://schemas.microsoft.com/3dmanufacturing/material/2015/02}"


def textured() -> Mesh:
    """The block, every side the whole of a picture of four colours."""
    mesh = block()
    uv = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]).repeat(6, 1)
    levels = torch.tensor([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 0]]])
    return Mesh(mesh.vertices, mesh.faces, uv, Texture(levels.float() / 255))


def model_of(path: Path) -> ElementTree.Element:
    with zipfile.ZipFile(path) as package:
        return ElementTree.fromstring(package.read("3D/3dmodel.model"))


def test_the_package_has_its_parts_and_they_refer_to_each_other(tmp_path: Path) -> None:
    save_3mf(textured(), tmp_path / "b.3mf")
    with zipfile.ZipFile(tmp_path / "b.3mf") as package:
        assert package.testzip() is None
        names = package.namelist()
        types = ElementTree.fromstring(package.read("[Content_Types].xml"))
        known = {entry.attrib["Extension"] for entry in types}
        assert names[0] == "[Content_Types].xml"
        assert all(name.rsplit(".", 1)[1] in known for name in names[1:])
        for name in names:
            if name.endswith(".rels"):
                for relation in ElementTree.fromstring(package.read(name)):
                    assert relation.attrib["Target"].lstrip("/") in names
        texture = model_of(tmp_path / "b.3mf").find(f".//{MATERIAL}texture2d")
        assert texture is not None
        picture = Pillow.open(io.BytesIO(package.read(texture.attrib["path"].lstrip("/"))))
    assert picture.getpixel((1, 1)) == (255, 255, 0)


@pytest.mark.parametrize("mesh", [block(), textured()], ids=["vertex colours", "textured"])
def test_the_model_keeps_the_core_rules(mesh: Mesh, tmp_path: Path) -> None:
    save_3mf(mesh, tmp_path / "b.3mf")
    model = model_of(tmp_path / "b.3mf")
    assert model.tag == f"{CORE}model"
    assert model.attrib["unit"] == "millimeter"
    assert [child.tag for child in model] == [
        f"{CORE}{n}" for n in ("metadata", "resources", "build")
    ]
    resources = model.find(f"{CORE}resources")
    assert resources is not None
    # Ids are positive and differ, and what is referred to comes before (4.1).
    seen: list[str] = []
    for resource in resources:
        assert all(
            resource.attrib[key] in seen for key in ("pid", "texid") if key in resource.attrib
        )
        seen.append(resource.attrib["id"])
    assert len(set(seen)) == len(seen)
    assert all(int(one) > 0 for one in seen)
    item = model.find(f"{CORE}build/{CORE}item")
    assert item is not None
    assert item.attrib["objectid"] == resources[-1].attrib["id"]
    triangles = np.array(
        [[int(t.attrib[v]) for v in ("v1", "v2", "v3")] for t in model.iter(f"{CORE}triangle")]
    )
    vertices = [tuple(v.attrib.values()) for v in model.iter(f"{CORE}vertex")]
    assert len(set(vertices)) == len(vertices) == 8
    assert triangles.max() < 8
    # A closed solid: every edge is used once in each direction (4.1).
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    directed = {tuple(edge) for edge in edges.tolist()}
    assert len(directed) == len(edges)
    assert all((b, a) in directed for a, b in directed)


def test_trimesh_finds_the_same_solid(tmp_path: Path) -> None:
    save_3mf(block(), tmp_path / "b.3mf", height_mm=50.0)
    theirs = trimesh.load(tmp_path / "b.3mf", force="mesh")
    assert isinstance(theirs, trimesh.Trimesh)
    assert theirs.is_watertight
    # Wide, deep, tall: ours is 0.6 by 1 (up) by 0.5.
    np.testing.assert_allclose(theirs.extents, [30, 25, 50], rtol=1e-5)
    assert theirs.volume == pytest.approx(30 * 25 * 50, rel=1e-4)
    assert theirs.bounds[0, 2] == pytest.approx(0, abs=1e-6)


def test_every_corner_keeps_its_colour(tmp_path: Path) -> None:
    save_3mf(block(), tmp_path / "b.3mf")
    model = model_of(tmp_path / "b.3mf")
    colours = [one.attrib["color"] for one in model.iter(f"{MATERIAL}color")]
    places = [[float(x) for x in v.attrib.values()] for v in model.iter(f"{CORE}vertex")]
    for triangle in model.iter(f"{CORE}triangle"):
        y = {places[int(triangle.attrib[v])][1] for v in ("v1", "v2", "v3")}
        if y == {min(place[1] for place in places)}:  # our front is at their -Y: red
            assert {colours[int(triangle.attrib[p])] for p in ("p1", "p2", "p3")} == {"#E51A1A"}
            break
    else:
        pytest.fail("no triangle faces the front")


def test_texture_coordinates_are_turned_over(tmp_path: Path) -> None:
    save_3mf(textured(), tmp_path / "b.3mf")
    model = model_of(tmp_path / "b.3mf")
    uv = [(one.attrib["u"], one.attrib["v"]) for one in model.iter(f"{MATERIAL}tex2coord")]
    assert uv[:4] == [("0", "1"), ("1", "1"), ("1", "0"), ("0", "0")]
    corners = [t.attrib["p1"] for t in model.iter(f"{CORE}triangle")]
    assert [int(p) for p in corners] == textured().faces[:, 0].tolist()


def test_the_same_mesh_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.3mf", "b.3mf"):
        save_3mf(textured(), tmp_path / name)
    assert (tmp_path / "a.3mf").read_bytes() == (tmp_path / "b.3mf").read_bytes()


def test_an_open_mesh_is_written_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = block()
    save_3mf(Mesh(whole.vertices, whole.faces), tmp_path / "whole.3mf")
    assert not caplog.text
    save_3mf(Mesh(whole.vertices, whole.faces[2:]), tmp_path / "open.3mf")
    assert "4 open edges" in caplog.text
    assert model_of(tmp_path / "open.3mf").find(f".//{MATERIAL}colorgroup") is None


def test_what_cannot_be_printed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="height_mm must be positive"):
        save_3mf(block(), tmp_path / "b.3mf", height_mm=-1.0)
    assert not list(tmp_path.iterdir())
