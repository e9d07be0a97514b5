"""Claims about reading 3MF: what we write comes back, and so does what the specification allows."""

import io
import logging
import zipfile
from pathlib import Path

import pytest
import torch
from fakes import block

from roundview.export.stl import printable
from roundview.export.three_mf import save_3mf
from roundview.export.three_mf_read import load_3mf, mesh_from_3mf_bytes
from roundview.frames import yup_points_from_zup
from roundview.mesh import Mesh, Texture, mesh_health

CORE = "http://schemas.microsoft.com/3dmanufacturing/core/2015/02"
MATERIAL = "http://schemas.microsoft.com/3dmanufacturing/material/2015/02"
RELATIONS = """<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">
<Relationship Id="a" Type="http://schemas.microsoft.com/3dmanufacturing/2013/01/3dmodel"
Target="/3D/3dmodel.model"/></Relationships>"""
CORNERS = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
MESH = (
    "<mesh><vertices>"
    + "".join(f'<vertex x="{x}" y="{y}" z="{z}"/>' for x, y, z in CORNERS)
    + "</vertices><triangles>{triangles}</triangles></mesh>"
)
CLOSED = "".join(
    f'<triangle v1="{a}" v2="{b}" v3="{c}"/>'
    for a, b, c in ((0, 2, 1), (0, 1, 3), (1, 2, 3), (0, 3, 2))
)
PLACED = '<build><item objectid="1"/></build>'


def textured() -> Mesh:
    """The block, every side the whole of a picture of four colours."""
    mesh = block()
    uv = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]).repeat(6, 1)
    levels = torch.tensor([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 0]]])
    return Mesh(mesh.vertices, mesh.faces, uv, Texture(levels.float() / 255))


def packed(model: str, *, relations: str = RELATIONS) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as package:
        package.writestr("_rels/.rels", relations)
        package.writestr("3D/3dmodel.model", model)
    return out.getvalue()


def model(inside: str, *, attributes: str = "") -> str:
    return f'<model xmlns="{CORE}" xmlns:m="{MATERIAL}" {attributes}>{inside}</model>'


def tetrahedron(*, build: str = PLACED, attributes: str = "", triangles: str = CLOSED) -> bytes:
    mesh = MESH.format(triangles=triangles)
    inside = f'<resources><object id="1">{mesh}</object></resources>{build}'
    return packed(model(inside, attributes=attributes))


def test_a_textured_mesh_returns_in_millimetres(tmp_path: Path) -> None:
    mesh = textured()
    save_3mf(mesh, tmp_path / "b.3mf", height_mm=40.0)
    got = load_3mf(tmp_path / "b.3mf")
    assert got.texture is not None
    assert got.uv is not None
    assert mesh.texture is not None
    assert mesh.uv is not None
    wanted = yup_points_from_zup(printable(mesh, 40.0))
    # Face by face, corner by corner: vertices themselves are numbered anew.
    torch.testing.assert_close(got.vertices[got.faces], wanted[mesh.faces])
    torch.testing.assert_close(got.uv[got.faces], mesh.uv[mesh.faces])
    assert torch.equal(got.texture.rgb, mesh.texture.rgb)
    assert mesh_health(got).watertight


def test_vertex_colours_return(tmp_path: Path) -> None:
    mesh = block()
    save_3mf(mesh, tmp_path / "b.3mf")
    got = load_3mf(tmp_path / "b.3mf")
    assert got.vertex_rgb is not None
    assert mesh.vertex_rgb is not None
    wanted = mesh.vertex_rgb[mesh.faces]
    torch.testing.assert_close(got.vertex_rgb[got.faces], wanted, rtol=0, atol=0.5 / 255 + 1e-6)


def test_a_bare_mesh_is_white(tmp_path: Path) -> None:
    mesh = block()
    save_3mf(Mesh(mesh.vertices, mesh.faces), tmp_path / "b.3mf")
    got = load_3mf(tmp_path / "b.3mf")
    assert len(got.vertices) == 8
    assert got.vertex_rgb is not None
    assert bool((got.vertex_rgb == 1).all())


@pytest.mark.parametrize(("unit", "length"), [("micron", 1e-3), ("inch", 25.4), ("meter", 1000.0)])
def test_units_become_millimetres(unit: str, length: float) -> None:
    got = mesh_from_3mf_bytes(tetrahedron(attributes=f'unit="{unit}"'))
    assert float(got.vertices[:, 1].max()) == pytest.approx(length)


def test_the_build_moves_points_as_rows() -> None:
    # A quarter turn about z, then a shift: (1, 0, 0) goes to (0, 1, 0) + (10, 20, 30).
    item = '<item objectid="1" transform="0 1 0 -1 0 0 0 0 1 10 20 30"/>'
    got = mesh_from_3mf_bytes(tetrahedron(build=f"<build>{item}</build>"))
    theirs = torch.tensor([[10.0, 20, 30], [10, 21, 30], [9, 20, 30], [10, 20, 31]])
    torch.testing.assert_close(got.vertices, yup_points_from_zup(theirs))


def test_a_mirror_does_not_turn_triangles_inside_out() -> None:
    def volume(mesh: Mesh) -> float:
        a, b, c = mesh.vertices[mesh.faces].unbind(1)
        return float((a * torch.linalg.cross(b, c)).sum() / 6)

    item = '<item objectid="1" transform="-1 0 0 0 1 0 0 0 1 0 0 0"/>'
    mirrored = mesh_from_3mf_bytes(tetrahedron(build=f"<build>{item}</build>"))
    assert volume(mirrored) == pytest.approx(volume(mesh_from_3mf_bytes(tetrahedron())))
    assert volume(mirrored) == pytest.approx(1 / 6)


def test_components_are_placed_within_what_holds_them() -> None:
    mesh = MESH.format(triangles=CLOSED)
    shift, double = "1 0 0 0 1 0 0 0 1 5 0 0", "2 0 0 0 2 0 0 0 2 0 0 0"
    inside = (
        f'<resources><object id="1">{mesh}</object><object id="2"><components>'
        f'<component objectid="1"/><component objectid="1" transform="{shift}"/>'
        "</components></object></resources>"
        f'<build><item objectid="2" transform="{double}"/></build>'
    )
    got = mesh_from_3mf_bytes(packed(model(inside)))
    assert len(got.faces) == 8
    assert got.vertices[:, 0].tolist() == [0, 2, 0, 0, 10, 12, 10, 10]


def test_triangles_without_a_colour_have_the_objects() -> None:
    triangles = (
        '<triangle v1="0" v2="2" v3="1"/>'
        '<triangle v1="0" v2="1" v3="3" pid="7" p1="1"/>'
        '<triangle v1="1" v2="2" v3="3" pid="8" p1="0" p2="1" p3="0"/>'
    )
    inside = (
        '<resources><basematerials id="7"><base name="a" displaycolor="#FF0000"/>'
        '<base name="b" displaycolor="#00FF0080"/></basematerials>'
        '<m:colorgroup id="8"><m:color color="#0000FF"/><m:color color="#FFFFFF"/></m:colorgroup>'
        f'<object id="1" pid="7" pindex="0">{MESH.format(triangles=triangles)}</object>'
        f"</resources>{PLACED}"
    )
    got = mesh_from_3mf_bytes(packed(model(inside)))
    assert got.vertex_rgb is not None
    colours = got.vertex_rgb[got.faces].tolist()
    assert colours[0] == [[1, 0, 0]] * 3
    assert colours[1] == [[0, 1, 0]] * 3
    assert colours[2] == [[0, 0, 1], [1, 1, 1], [0, 0, 1]]


def test_colours_that_are_not_read_are_told(caplog: pytest.LogCaptureFixture) -> None:
    triangles = '<triangle v1="0" v2="2" v3="1" pid="9" p1="3"/>'
    with caplog.at_level(logging.WARNING):
        got = mesh_from_3mf_bytes(tetrahedron(triangles=triangles))
    assert "are left out" in caplog.text
    assert len(got.faces) == 1


@pytest.mark.parametrize(
    ("data", "wrong"),
    [
        (b"PK nothing", "not a 3MF package"),
        (packed(model(""), relations="<Relationships/>"), "name no 3D model"),
        (packed("<model/>"), "not a 3MF model"),
        (packed("<model"), "XML is broken"),
        (packed('<!DOCTYPE a [<!ENTITY b "c">]><model/>'), "forbids"),
        (packed(model("")), "no triangles"),
        (tetrahedron(attributes='unit="ell"'), "'ell' is none of micron"),
        (tetrahedron(attributes='requiredextensions="b"'), "needs the extensions b"),
        (tetrahedron(build='<build><item objectid="2"/></build>'), "object 2 is placed before"),
        (tetrahedron(build="<build><item/></build>"), "one item has no objectid"),
        (tetrahedron(triangles='<triangle v1="0" v2="1" v3="4"/>'), "vertex 4 of 4"),
        (tetrahedron(triangles='<triangle v1="0" v2="1" v3="-1"/>'), "vertex"),
        (tetrahedron(triangles='<triangle v1="0" v2="1" v3="x"/>'), "where a number should be"),
        (tetrahedron(triangles='<triangle v1="0" v2="1"/>'), "lacks some of 6 numbers"),
        (tetrahedron(triangles='<triangle v1="0" v2="1" v3="1.5"/>'), "no whole number"),
    ],
)
def test_broken_files_are_refused_in_one_line(data: bytes, wrong: str, tmp_path: Path) -> None:
    (tmp_path / "b.3mf").write_bytes(data)
    with pytest.raises(ValueError, match=wrong) as caught:
        load_3mf(tmp_path / "b.3mf")
    assert str(caught.value).startswith("cannot read ")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"gone\.3mf: No such file"):
        load_3mf(tmp_path / "gone.3mf")


def test_a_missing_picture_is_named(tmp_path: Path) -> None:
    save_3mf(textured(), tmp_path / "b.3mf")
    out = io.BytesIO()
    with zipfile.ZipFile(tmp_path / "b.3mf") as whole, zipfile.ZipFile(out, "w") as less:
        for name in whole.namelist():
            if not name.endswith(".png"):
                less.writestr(name, whole.read(name))
    with pytest.raises(ValueError, match=r"3D/Textures/texture\.png is missing"):
        mesh_from_3mf_bytes(out.getvalue())


def test_no_damage_gives_anything_but_a_mesh_or_a_value_error(tmp_path: Path) -> None:
    save_3mf(textured(), tmp_path / "b.3mf")
    whole = (tmp_path / "b.3mf").read_bytes()
    rng = torch.Generator().manual_seed(0)
    for _ in range(150):
        data = bytearray(whole)
        for at in torch.randint(len(data), (3,), generator=rng).tolist():
            data[at] = int(torch.randint(256, (1,), generator=rng))
        cut = int(torch.randint(len(data) // 2, 2 * len(data), (1,), generator=rng))
        try:
            assert isinstance(mesh_from_3mf_bytes(bytes(data[:cut])), Mesh)
        except ValueError as error:
            assert "\n" not in str(error)  # noqa: PT017  either outcome is right


@pytest.mark.parametrize("moved", ["", 'transform="1 0 0 0 1 0 0 0 1 0 0 0"'])
def test_objects_that_double_at_each_step_are_refused_at_once(moved: str) -> None:
    objects = [f'<object id="0">{MESH.format(triangles=CLOSED)}</object>']
    for at in range(1, 40):
        twice = f'<component objectid="{at - 1}" {moved}/>' * 2
        objects.append(f'<object id="{at}"><components>{twice}</components></object>')
    inside = f"<resources>{''.join(objects)}</resources><build><item objectid='39'/></build>"
    with pytest.raises(ValueError, match="places over"):
        mesh_from_3mf_bytes(packed(model(inside)))


def test_parts_that_unpack_to_far_more_than_they_are_packed_are_refused() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as package:
        package.writestr("_rels/.rels", RELATIONS)
        package.writestr("3D/3dmodel.model", model(" " * 17_000_000))
    assert len(out.getvalue()) < 20_000
    with pytest.raises(ValueError, match="unpacks to over 16 MB"):
        mesh_from_3mf_bytes(out.getvalue())
