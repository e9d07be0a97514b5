import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

CHILD = [sys.executable, "-m", "roundview.serve.child"]


def test_it_runs_the_command_line() -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([*CHILD, "--version"], stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        assert process.stdout.read().startswith(b"roundview ")
        assert process.wait(timeout=60) == 0


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
def test_it_ends_with_the_server_and_takes_its_children_along(tmp_path: Path) -> None:
    # A command that starts a child and waits for it, as meshing does.
    code = (
        "import subprocess; from roundview.serve import child; import roundview.cli as cli;"
        f"cli.run = lambda _: subprocess.run(['sleep', '600']);"
        f"open({str(tmp_path / 'there')!r}, 'w').close(); child.main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "there").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.stdin is not None
    process.stdin.close()  # What the end of the server does.
    assert process.wait(timeout=30) != 0
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    pytest.fail("its child lives on")
