import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from httpx2 import Response
from serve_fakes import desk, made_folder
from starlette.testclient import TestClient

from roundview.serve.app import create_app
from roundview.serve.limits import Limits

LIMITS = Limits(queued=3, free_bytes=0, upload_bytes=200_000)
Open = Callable[..., TestClient]


@pytest.fixture
def open_client(tmp_path: Path) -> Iterator[Open]:
    """Start servers over one folder; each is stopped before the next one starts."""
    made = made_folder(tmp_path / "made")
    opened: list[TestClient] = []

    def close() -> None:
        for client in opened:
            client.__exit__(None, None, None)
        opened.clear()

    def opening(limits: Limits = LIMITS) -> TestClient:
        close()
        client = TestClient(create_app(desk(tmp_path / "data", made, limits)))
        opened.append(client.__enter__())
        return opened[0]

    yield opening
    close()


@pytest.fixture
def client(open_client: Open) -> TestClient:
    return open_client()


def post(client: TestClient, content: bytes = b"a photo", **settings: object) -> Response:
    data = {"settings": json.dumps(settings)}
    return client.post("/api/jobs", files={"photo": ("p.png", content)}, data=data)


def until(client: TestClient, id: str, state: str) -> dict[str, Any]:
    deadline, job = time.monotonic() + 60, {}
    while time.monotonic() < deadline:
        job = client.get(f"/api/jobs/{id}").json()
        if job["state"] == state:
            return job
        time.sleep(0.02)
    raise AssertionError(f"it stayed {job.get('state')}: {job.get('reason')}")


def events(client: TestClient, id: str) -> list[dict[str, Any]]:
    with client.stream("GET", f"/api/jobs/{id}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = list(answer.iter_lines())
    return [json.loads(line[6:]) for line in lines if line.startswith("data: ")]


def test_a_photo_becomes_files(client: TestClient) -> None:
    accepted = post(client, seed=0, quality="draft")
    assert accepted.status_code == 202
    job = accepted.json()
    assert accepted.headers["location"] == f"/api/jobs/{job['id']}"
    assert job["settings"]["quality"] == "draft"
    told = events(client, job["id"])
    assert told[-1]["state"] == "done"
    assert told[-1]["stages"][0] == {"name": "matte", "seconds": 0.25, "resumed": False}
    files = {file["name"]: file for file in told[-1]["files"]}
    glb = client.get(files["asset.glb"]["url"])
    assert glb.content == b"this is asset.glb"
    assert glb.headers["content-type"] == "model/gltf-binary"
    assert 'filename="roundview-asset.glb"' in glb.headers["content-disposition"]
    assert client.get(files["splats.spz"]["url"]).content == b"made of splats.ply"
    assert client.get(told[-1]["preview"]).content == b"this is preview.png"
    assert client.get(job["photo"]).content == b"a picture"
    assert client.get("/api/jobs").json()["jobs"][0]["id"] == job["id"]


def test_a_job_is_made_again_with_other_settings(client: TestClient) -> None:
    first = post(client, seed=2, quality="draft").json()
    until(client, first["id"], "failed")
    at = f"/api/jobs/{first['id']}/again"
    again = client.post(at, data={"settings": '{"seed": 0, "quality": "draft"}'})
    assert again.status_code == 202
    assert again.headers["location"] == f"/api/jobs/{again.json()['id']}"
    done = until(client, again.json()["id"], "done")
    assert done["settings"]["seed"] == 0
    assert client.get(done["photo"]).content == b"a picture"
    third = client.post(at, data={"settings": '{"seed": 5, "quality": "draft"}'}).json()
    assert [stage["name"] for stage in third["expected"]] == ["matte", "draw"]
    until(client, third["id"], "done")
    took = client.get("/api/options").json()["took"]
    assert [(one["recipe"], one["quality"]) for one in took] == [("im3d", "draft")]
    assert client.post(at, data={"settings": '{"seed": -1}'}).status_code == 422
    assert client.post("/api/jobs/0123456789abcdef/again").status_code == 404


@pytest.mark.parametrize(
    ("seed", "reason"), [(1, "its worker was ended by SIGKILL"), (2, "photo: no object found")]
)
def test_a_job_that_fails_says_why(client: TestClient, seed: int, reason: str) -> None:
    job = until(client, post(client, seed=seed).json()["id"], "failed")
    assert job["reason"].startswith(reason)
    assert job["files"] == []
    assert client.get(f"/api/jobs/{job['id']}/files/asset.glb").status_code == 404


def test_delete_cancels_and_then_removes(client: TestClient) -> None:
    at = f"/api/jobs/{post(client, seed=3).json()['id']}"
    until(client, at.rsplit("/", maxsplit=1)[-1], "running")
    cancelled = client.delete(at)
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    assert client.delete(at).status_code == 204
    assert client.get(at).status_code == 404
    assert client.delete(at).status_code == 404


def test_a_full_queue_says_when_to_come_again(client: TestClient) -> None:
    running = post(client, seed=3).json()["id"]
    until(client, running, "running")
    waiting = [post(client, seed=3).json() for _ in range(3)]
    assert [client.get(f"/api/jobs/{job['id']}").json()["ahead"] for job in waiting] == [0, 1, 2]
    refused = post(client, seed=3)
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    for job in waiting:
        client.delete(f"/api/jobs/{job['id']}")
    client.delete(f"/api/jobs/{running}")


def test_the_next_server_goes_on_with_what_this_one_had(open_client: Open) -> None:
    first = open_client()
    running, waiting = post(first, seed=3).json()["id"], post(first, seed=0).json()["id"]
    until(first, running, "running")
    second = open_client()
    until(second, running, "running")
    second.delete(f"/api/jobs/{running}")
    assert until(second, waiting, "done")["settings"]["seed"] == 0


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ("no json", "settings"),
        ("[]", "settings"),
        ('{"seed": -1}', "settings.seed"),
        ('{"recipe": "../x"}', "settings.recipe"),
        ('{"weights": "/etc/passwd"}', "settings.weights"),
        ('{"seed": 1e400}', "settings"),
        ("[" * 3000, "settings"),
        ("x" * 5000, "settings"),
    ],
)
def test_settings_that_cannot_be_used_are_named(
    client: TestClient, settings: str, named: str
) -> None:
    files = {"photo": ("p.png", b"a photo")}
    refused = client.post("/api/jobs", files=files, data={"settings": settings})
    assert refused.status_code == 422
    assert refused.json()["error"].startswith(named)
    assert len(refused.json()["error"]) < 300


def test_photos_that_cannot_be_used_are_refused_at_once(client: TestClient) -> None:
    for content, status in ((b"bad", 422), (b"die", 422), (bytes(300_000), 413)):
        refused = post(client, content)
        assert refused.status_code == status, content[:4]
    assert client.post("/api/jobs", data={"settings": "{}"}).status_code == 422
    assert client.post("/api/jobs", content=b"--x\r\n\r\n", headers=MULTIPART).status_code in (
        400,
        422,
    )
    assert client.get("/api/jobs").json()["jobs"] == []


MULTIPART = {"content-type": "multipart/form-data; boundary=x"}


def test_a_mask_and_no_matte_exclude_each_other(client: TestClient) -> None:
    files = {"photo": ("p", b"photo"), "mask": ("m", b"mask")}
    refused = client.post("/api/jobs", files=files, data={"settings": '{"no_matte": true}'})
    assert refused.status_code == 422


def test_the_matte_comes_as_a_picture(client: TestClient) -> None:
    answer = client.post("/api/matte", files={"photo": ("p.png", b"a photo")})
    assert (answer.status_code, answer.content) == (200, b"a picture")
    assert answer.headers["content-type"] == "image/png"
    refused = client.post("/api/matte", files={"photo": ("p.png", b"bad")})
    assert refused.json()["error"] == "photo: is not a picture that can be read"


def test_the_list_comes_in_pages(client: TestClient) -> None:
    ids = [post(client, seed=0).json()["id"] for _ in range(3)]
    for id in ids:
        until(client, id, "done")
    page = client.get("/api/jobs?limit=2").json()
    assert [job["id"] for job in page["jobs"]] == [ids[2], ids[1]]
    rest = client.get(f"/api/jobs?limit=2&before={page['next_before']}").json()
    assert [job["id"] for job in rest["jobs"]] == [ids[0]]
    assert rest["next_before"] is None


def test_health_options_metrics_and_the_description_answer(client: TestClient) -> None:
    assert client.get("/health").json()["status"] == "ok"
    assert "im3d" in client.get("/api/options").json()["recipes"]
    assert 'roundview_jobs{state="queued"} 0' in client.get("/metrics").text
    paths = client.get("/api/openapi.json").json()["paths"]
    assert {"/api/jobs", "/api/jobs/{id}", "/api/jobs/{id}/files/{name}", "/health"} <= set(paths)
    assert "202" in paths["/api/jobs"]["post"]["responses"]


def attempts(id: str) -> list[str]:
    """Ways to a file that is none of the job's."""
    up = ["../", "..%2f", "%2e%2e/", "..\\", "..%5c", "....//", "%252e%252e%252f", "..%c0%af"]
    goals = ["jobs.sqlite", "photo", "etc/passwd", "asset.glb%00.png", "record.json", ".stages"]
    goals.append("proc/self/environ")
    names = [way * depth + goal for way in up for goal in goals for depth in (1, 2, 6)]
    names += [
        "/etc/passwd",
        "//etc/passwd",
        "file:///etc/passwd",
        "%00",
        "~",
        ".",
        "..",
        "a" * 5000,
    ]
    ids = [
        "' OR 1=1 --",
        '"; DROP TABLE jobs; --',
        "%27%20OR%201=1",
        f"{id}%00",
        f"{id}/",
        "*",
        "%ff",
    ]
    paths = [f"/api/jobs/{id}/files/{name}" for name in names]
    return (
        paths
        + [f"/api/jobs/{other}/files/asset.glb" for other in (*ids, *up)]
        + [f"/api/jobs/{other}" for other in (*ids, *up)]
    )


def test_nothing_but_the_files_of_a_job_can_be_had(client: TestClient) -> None:
    id = post(client, seed=0).json()["id"]
    until(client, id, "done")
    tried = attempts(id)
    assert len(tried) >= 200
    for path in tried:
        answer = client.get(path, follow_redirects=False)
        assert answer.status_code < 500, path
        # A client takes plain `..` out of a path before it sends it, which leads to other routes.
        if answer.status_code == 200:
            assert answer.content.startswith((b"{", b"a picture", b"<!doctype html>")), path
            assert b"this is" not in answer.content
        assert b"root:" not in answer.content
        assert b"PATH=" not in answer.content
        assert b"SQLite format" not in answer.content
    assert client.get(f"/api/jobs/{id}").json()["state"] == "done"


def test_names_from_the_client_are_used_for_nothing(client: TestClient, tmp_path: Path) -> None:
    before = {path.name for path in tmp_path.iterdir()}
    for name in ("../../escaped", "/tmp/escaped", "a\x00b", "CON", "-o", "$(touch x)", "x" * 3000):
        files = {"photo": (name, b"a photo"), "mask": (name, b"a mask")}
        accepted = client.post("/api/jobs", files=files, data={"settings": "{}"})
        assert accepted.status_code in (202, 400, 422, 429)
        assert "escaped" not in accepted.text
        if accepted.status_code == 202:
            until(client, accepted.json()["id"], "done")
    assert {path.name for path in tmp_path.iterdir()} == before
    names = {path.name for path in (tmp_path / "data" / "jobs").rglob("*")}
    assert not {"escaped", "CON", "-o"} & names


def test_sixty_four_clients_at_once_each_get_their_own_answer(open_client: Open) -> None:
    client = open_client(Limits(queued=64, workers=2, free_bytes=0))

    def journey(at: int) -> tuple[int, str]:
        accepted = post(client, seed=1000 + at)
        return accepted.json()["settings"]["seed"], accepted.json()["id"]

    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(journey, range(64)))
    assert [seed for seed, _ in answers] == [1000 + at for at in range(64)]
    assert len({id for _, id in answers}) == 64
    assert client.get("/health").status_code == 200
    for seed, id in answers[-2:]:
        assert until(client, id, "done")["settings"]["seed"] == seed
