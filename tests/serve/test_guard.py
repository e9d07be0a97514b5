import pytest
from fastapi import FastAPI, Request
from starlette.testclient import TestClient

from roundview.serve.guard import COOKIE, LOOPBACK, Guard

TOKEN = "a-long-enough-token"


def client(*, token: str | None = None, hosts: tuple[str, ...] = ()) -> TestClient:
    app = FastAPI()

    @app.get("/")
    @app.get("/health")
    @app.get("/api/jobs")
    def said() -> str:
        return "hello"

    @app.post("/api/jobs")
    async def taken(request: Request) -> int:
        return len(await request.body())

    app.add_middleware(Guard, upload_bytes=1000, token=token, hosts=hosts)
    return TestClient(app, base_url="http://127.0.0.1:8710", follow_redirects=False)


def test_answers_and_refusals_carry_the_security_headers() -> None:
    for path in ("/", "/nothing"):
        headers = client().get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "'unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "access-control-allow-origin" not in headers


def test_pages_of_other_origins_can_change_nothing() -> None:
    there = client()
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
        assert there.post("/api/jobs", headers={"origin": origin}).status_code == 403
    own = {"origin": "http://127.0.0.1:8710"}
    assert there.post("/api/jobs", headers=own, content=b"x").json() == 1
    assert there.post("/api/jobs", content=b"x").status_code == 200  # No browser.


def test_other_names_are_not_answered_to() -> None:
    there = client(hosts=LOOPBACK)
    assert there.get("/").status_code == 200
    for name in ("localhost", "localhost:80", "[::1]:8710"):
        assert there.get("/", headers={"host": name}).status_code == 200
    for name in ("evil.example", "evil.example:8710", "localhost.evil.example", ""):
        assert there.get("/", headers={"host": name}).status_code == 400


@pytest.mark.parametrize("told", ["1001", "99999999999999999999", "-1", "\u00b2"])
def test_a_length_that_is_too_much_is_refused_at_once(told: str) -> None:
    headers = [(b"content-length", told.encode("latin-1"))]
    refused = client().post("/api/jobs", content=b"x", headers=headers)
    assert refused.status_code == 413


def test_a_body_of_untold_length_is_counted_as_it_comes() -> None:
    there = client()
    assert there.post("/api/jobs", content=(bytes(100) for _ in range(10))).json() == 1000
    refused = there.post("/api/jobs", content=(bytes(100) for _ in range(11)))
    assert refused.status_code == 413


def test_without_the_token_only_health_answers() -> None:
    there = client(token=TOKEN)
    assert there.get("/health").status_code == 200
    for path in ("/", "/api/jobs", "/nothing", "/?token=wrong"):
        refused = there.get(path)
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == "Bearer"
    for offered in (TOKEN[:-1], TOKEN + "x", "", "\u00e9"):
        headers = [(b"authorization", f"Bearer {offered}".encode("latin-1"))]
        assert there.get("/", headers=headers).status_code == 401
    assert there.get("/", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_a_browser_gets_a_cookie_for_the_token_and_the_address_loses_it() -> None:
    there = client(token=TOKEN)
    led_on = there.get(f"/?token={TOKEN}")
    assert led_on.status_code == 303
    assert led_on.headers["location"] == "/"
    cookie = led_on.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert there.cookies[COOKIE] == TOKEN
    assert there.get("/").status_code == 200
    assert there.get("/", headers={"cookie": "\x7f=;;=\x00"}).status_code == 401


def test_no_header_makes_it_stumble() -> None:
    there = client(token=TOKEN, hosts=LOOPBACK)
    odd = [b"", b"\xff\xfe", b"[", b"[::1", b"http://[", b"a" * 5000, b"%00", b"://"]
    for value in odd:
        for name in (b"host", b"origin", b"cookie", b"authorization", b"content-length"):
            assert there.post("/api/jobs", headers=[(name, value)]).status_code < 500
