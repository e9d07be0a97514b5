"""Journeys through the page in a real browser; they need Chromium, node and playwright-core."""

import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PLAYWRIGHT = Path("node_modules/playwright-core").absolute()

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None or shutil.which("node") is None or not PLAYWRIGHT.is_dir(),
        reason="needs Chromium, node and node_modules/playwright-core (npm install --no-save)",
    ),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server whose jobs take no time, in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("served")
    process = subprocess.Popen([sys.executable, HERE / "stand_in_server.py", folder, str(port)])
    there = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            urllib.request.urlopen(f"{there}/health", timeout=5).close()
            break
        except OSError:
            assert process.poll() is None, "the server did not start"
            time.sleep(0.1)
    yield there
    process.terminate()
    process.wait(timeout=30)


@pytest.mark.parametrize(
    "journey", ["whole", "refusals", "again", "cancel", "reload", "looks", "keyboard"]
)
def test_the_page_does_what_a_person_expects(
    address: str, journey: str, repository: Path, tmp_path: Path
) -> None:
    photo = repository / "examples" / "photos" / "chair.png"
    done = subprocess.run(
        ["node", HERE / "journey.mjs", address, str(CHROMIUM), photo, tmp_path / "shots", journey],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.endswith("well\n")
