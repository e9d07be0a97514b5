"""The command line as a whole: exit codes, one-line errors, start-up time's causes."""

import subprocess
import sys
from pathlib import Path

import pytest

from roundview.cli import run


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """What was written to stderr, which must be one line of ours."""
    text = capsys.readouterr().err
    assert text.startswith("roundview: ")
    assert text.count("\n") == 1
    return text


def test_help_imports_nothing_heavy() -> None:
    heavy = "torch numpy scipy PIL rich numba diffusers transformers trimesh"
    script = (
        "import sys\nfrom roundview.cli import run\nassert run(['--help']) == 0\n"
        f"found = [name for name in {heavy.split()!r} if name in sys.modules]\n"
        "assert not found, found\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for command in ("make", "views", "fit", "render", "inspect", "train", "warmup", "weights"):
        assert command in done.stdout


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("roundview 0.")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["make", "nothing.png"], "--output"),
        (["make", "nothing.png", "-o", "out", "--recipe", "nonsense"], "unknown"),
        (["make", "nothing.png", "-o", "out", "--fit", "voxels"], "splat, sdf, radiance"),
        (["make", "nothing.png", "-o", "out", "--quality", "best"], "quality"),
        (["make", "nothing.png", "-o", "out", "--photo-elevation-deg", "up"], "elevation"),
        (["make", "nothing.png", "-o", "out", "--photo-elevation-deg", "85"], "-80..80"),
        (["make", "nothing.png", "-o", "out", "--seed", "-1"], "seed"),
        (["make", "nothing.png", "-o", "out", "--faces", "0"], "faces"),
        (["make", "nothing.png", "-o", "out", "--mask", "m.png", "--no-matte"], "exclude"),
        (["make", "nothing.png", "-o", "out"], "nothing.png"),
        (["views", "nothing.png", "-o", "out", "--azimuth-deg", "0,east"], "azimuth"),
        (["fit", "nowhere", "-o", "out"], "nowhere"),
        (["render", "nothing.glb", "-o", "out"], "no such file"),
        (["inspect", "nothing.glb"], "no such file"),
        (["train", "giant", "-o", "out", "--data", "x.zip"], "orbit-small"),
        (["fit", "nowhere", "-o", "out", "--device", "cuda"], "CPU in this version"),
        (["train", "orbit-small", "-o", "o", "--data", "x", "--device", "mps"], "CPU in this"),
        (["weights", "show", "giant"], "u2netp"),
        (["dance"], "dance"),
    ],
)
def test_bad_usage_is_told_in_one_line(
    arguments: list[str],
    word: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 2
    assert word in said(capsys)
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_a_file_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("mine")
    assert run(["make", "photo.png", "-o", str(tmp_path / "out")]) == 2
    assert "is a file" in said(capsys)
    assert (tmp_path / "out").read_text() == "mine"


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", "nothing.glb", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err
