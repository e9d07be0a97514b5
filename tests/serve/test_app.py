import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from serve_fakes import desk, made_folder
from starlette.testclient import TestClient

from roundview.export.glb import load_glb
from roundview.serve.app import PAGE, create_app
from roundview.serve.desk import Desk
from roundview.serve.limits import Limits


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    made = made_folder(tmp_path / "made")
    with TestClient(create_app(desk(tmp_path / "data", made))) as there:
        yield there


def test_the_page_and_all_it_names_come_from_the_server(client: TestClient) -> None:
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    asked = set(re.findall(r'(?:src|href)="(/[^"]+)"', page.text))
    for script in PAGE.glob("*.js"):
        asked |= {
            f"/page/{name}" for name in re.findall(r'["(]\./([\w./]+\.js)"', script.read_text())
        }
    assert "/page/vendor/three.min.js" in asked
    for path in asked:
        assert client.get(path).status_code == 200, path


def test_the_page_asks_no_other_host() -> None:
    for path in (*PAGE.glob("*.html"), *PAGE.glob("*.js"), *PAGE.glob("*.css")):
        hosts = set(re.findall(r"(?:https?:)?//([\w-]+\.[\w.]+)", path.read_text()))
        assert not hosts, path.name
    # What the policy forbids does not stand in the page: styles and scripts inside of it.
    page = (PAGE / "index.html").read_text()
    assert not re.search(r"<style|style=|\son\w+=|<script(?![^>]*src=)", page)


def test_what_is_vendored_is_small_and_licensed() -> None:
    assert sum(path.stat().st_size for path in PAGE.rglob("*")) < 1_000_000
    assert "MIT" in (PAGE / "vendor" / "three.LICENSE.txt").read_text()


def test_errors_are_one_line_of_json(client: TestClient) -> None:
    for path, status in (("/nothing", 404), ("/api/jobs?limit=x", 422), ("/page/no.js", 404)):
        refused = client.get(path)
        assert refused.status_code == status
        assert set(refused.json()) == {"error"}
    assert client.put("/api/jobs").status_code == 405


def test_nothing_of_the_disk_can_be_had_through_the_page(client: TestClient) -> None:
    for path in (
        "..%2fapp.py",
        "%2e%2e/app.py",
        "..\\app.py",
        "....//app.py",
        "%00",
        "/etc/passwd",
    ):
        assert client.get(f"/page/{path}").status_code in (404, 405), path


@pytest.mark.slow
def test_a_real_photo_becomes_a_real_asset(tmp_path: Path, repository: Path) -> None:
    photo = repository / "examples" / "photos" / "chair.png"
    settings = '{"quality": "draft", "faces": 2000, "texture_size": 256}'
    with TestClient(create_app(Desk(tmp_path / "data", Limits(chore_seconds=600.0)))) as there:
        with photo.open("rb") as picture:
            matte = there.post("/api/matte", files={"photo": picture})
        assert matte.content.startswith(b"\x89PNG")
        files = {"photo": photo.read_bytes(), "mask": matte.content}
        job = there.post("/api/jobs", files=files, data={"settings": settings}).json()
        deadline = time.monotonic() + 3000
        while job["ended"] is None and time.monotonic() < deadline:
            time.sleep(0.5)
            job = there.get(f"/api/jobs/{job['id']}").json()
        assert job["state"] == "done", job["reason"]
        for file in job["files"]:
            answer = there.get(file["url"])
            assert answer.status_code == 200, file["name"]
            assert len(answer.content) > 500, file["name"]
        glb = there.get(f"/api/jobs/{job['id']}/files/asset.glb").content
    (tmp_path / "asset.glb").write_bytes(glb)
    assert 500 < len(load_glb(tmp_path / "asset.glb").faces) <= 2000
