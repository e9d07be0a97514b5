import socket
from pathlib import Path

import pytest
import typer

from roundview import cli
from roundview.cli.serving import check_token, listening, serve, warming


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command beside another, as in the program: a lone one would lose its name."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(serve)
    app.command()(cli.inspect)
    monkeypatch.setattr(cli, "app", app)
    monkeypatch.delenv("ROUNDVIEW_TOKEN", raising=False)


def test_the_network_is_let_in_with_a_token_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["serve", "--host", "0.0.0.0"]) == 2
    assert "give a --token" in capsys.readouterr().err
    assert cli.run(["serve", "--token", "short"]) == 2
    assert "12 characters" in capsys.readouterr().err
    check_token("0.0.0.0", "a-long-enough-token")
    check_token("127.0.0.1", None)


def test_a_port_in_use_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with listening("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        assert cli.run(["serve", "--port", str(port)]) == 2
    said = capsys.readouterr().err
    assert f"port {port}" in said
    assert said.count("\n") == 1


def test_bad_places_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert cli.run(["serve", "--data", str(tmp_path / "file")]) == 2
    assert "is a file" in capsys.readouterr().err
    with pytest.raises(ValueError, match="no address of this machine"):
        listening("host.invalid", 0)


def test_kernels_are_compiled_beside_a_server_and_no_longer_than_it_lives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ROUNDVIEW_TOKEN", "a-long-enough-token")
    with warming() as process:
        assert process.poll() is None
        assert "warmup" in list(map(str, process.args))  # pyright: ignore[reportArgumentType]  a list
    assert process.returncode != 0, "it was ended"


def test_a_free_port_can_be_had() -> None:
    with listening("127.0.0.1", 0) as there:
        assert there.family == socket.AF_INET
        assert there.getsockname()[1] > 0
