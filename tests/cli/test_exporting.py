"""Claims about `roundview export`, run in process through a command line of its own."""

from pathlib import Path

import pytest
import torch
import typer
from fakes import block

from roundview import cli
from roundview.cli.exporting import export
from roundview.export.convert import load_any
from roundview.export.glb import save_glb
from roundview.export.ply import save_splats
from roundview.gaussians import Gaussians
from roundview.mesh import Mesh


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command beside another, as in the program: a lone one would lose its name."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(export)
    app.command()(cli.inspect)
    monkeypatch.setattr(cli, "app", app)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A folder as `roundview make` leaves it."""
    folder = tmp_path / "made"
    save_glb(block(), folder / "asset.glb")
    cloud = Gaussians(
        torch.eye(3),
        torch.full((3, 3), -3.0),
        torch.tensor([[1.0, 0.0, 0.0, 0.0]] * 3),
        torch.zeros(3),
        torch.zeros(3, 1, 3),
    )
    save_splats(cloud, folder / "splats.ply")
    return folder


@pytest.mark.parametrize("name", ["a.glb", "a.obj", "a.ply", "a.stl"])
def test_a_folder_gives_its_mesh(name: str, made: Path, tmp_path: Path) -> None:
    assert cli.run(["export", str(made), "-o", str(tmp_path / name)]) == 0
    got = load_any(tmp_path / name)
    assert isinstance(got, Mesh)
    assert len(got.faces) == 12


@pytest.mark.parametrize("name", ["a.splat", "a.spz"])
def test_a_folder_gives_its_splats(name: str, made: Path, tmp_path: Path) -> None:
    assert cli.run(["export", str(made), "-o", str(tmp_path / name)]) == 0
    assert isinstance(load_any(tmp_path / name), Gaussians)


def test_a_file_gives_what_it_holds(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "b.stl"
    assert cli.run(["export", str(made / "asset.glb"), "-o", str(out), "--height-mm", "12"]) == 0
    got = load_any(out)
    assert isinstance(got, Mesh)
    assert float(got.vertices[:, 1].max()) == pytest.approx(12.0)
    assert cli.run(["export", str(made / "splats.ply"), "-o", str(tmp_path / "c.ply")]) == 0
    assert isinstance(load_any(tmp_path / "c.ply"), Gaussians)


def test_faces_and_vertices_can_be_fewer_and_smaller(made: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "b.glb")
    assert cli.run(["export", str(made), "-o", out, "--faces", "8", "--quantize"]) == 0
    got = load_any(out)
    assert isinstance(got, Mesh)
    assert len(got.faces) <= 8
    assert b"KHR_mesh_quantization" in Path(out).read_bytes()


@pytest.mark.parametrize(
    ("source", "target", "options", "wrong"),
    [
        ("asset.glb", "a.splat", [], "holds splats, this is a mesh: write .glb, .obj, .ply"),
        ("splats.ply", "a.glb", [], "holds a mesh, this is splats: write .ply, .splat or .spz"),
        (
            "asset.glb",
            "a.fbx",
            [],
            "no format we write: .3mf, .glb, .obj, .ply, .splat, .spz, .stl",
        ),
        ("asset.glb", "a", [], "no suffix is no format"),
        ("missing.glb", "a.glb", [], "no such file or folder"),
        ("splats.ply", "a.spz", ["--faces", "9"], "holds splats, which have none"),
        ("asset.glb", "a.obj", ["--quantize"], "quantize is for .glb"),
        ("asset.glb", "a.glb", ["--height-mm", "5"], "height_mm is for .stl, .3mf or .usdz"),
        ("asset.glb", ".", [], "is a folder; name a file"),
    ],
)
def test_what_does_not_fit_is_one_line(
    source: str,
    target: str,
    options: list[str],
    wrong: str,
    made: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert cli.run(["export", str(made / source), "-o", str(out / target), *options]) == 2
    said = capsys.readouterr().err
    assert wrong in said
    assert said.count("\n") == 1
    assert not list(out.iterdir())


def test_a_folder_without_the_asset_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["export", str(tmp_path), "-o", str(tmp_path / "a.spz")]) == 2
    assert "holds no splats.ply" in capsys.readouterr().err
