import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from serve_fakes import helper

from roundview.serve.helper import BusyError, ChoreError, Helper


@pytest.fixture
def quick() -> Iterator[Helper]:
    made = helper(seconds=1.0, waiting=2)
    yield made
    made.stop()


def photo(folder: Path, content: bytes) -> str:
    (folder / "photo").write_bytes(content)
    return str(folder / "photo")


def test_chores_are_done_one_after_another(tmp_path: Path, quick: Helper) -> None:
    async def two() -> list[dict[str, int]]:
        asked = [
            quick.ask("check", photo(tmp_path, b"good"), None, str(tmp_path / n)) for n in "ab"
        ]
        return await asyncio.gather(*asked)

    assert asyncio.run(two()) == [{"width": 64, "height": 64}] * 2
    assert (tmp_path / "b").exists()


def test_a_refusal_comes_with_its_reason(tmp_path: Path, quick: Helper) -> None:
    with pytest.raises(ChoreError, match="is not a picture"):
        asyncio.run(quick.ask("check", photo(tmp_path, b"bad"), None, "x"))


@pytest.mark.parametrize("content", [b"die", b"hang"])
def test_a_file_that_ends_the_process_ends_nothing_else(
    tmp_path: Path, quick: Helper, content: bytes
) -> None:
    with pytest.raises(ChoreError, match="gave the file up"):
        asyncio.run(quick.ask("check", photo(tmp_path, content), None, "x"))
    good = photo(tmp_path, b"good")
    assert asyncio.run(quick.ask("check", good, None, str(tmp_path / "t")))["width"] == 64


def until_there(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_is_offered_is_done_when_there_is_nothing_else(tmp_path: Path, quick: Helper) -> None:
    path = photo(tmp_path, b"good")
    quick.offer("check", path, None, str(tmp_path / "first"))
    until_there(tmp_path / "first")

    async def with_another() -> None:
        asked = asyncio.ensure_future(quick.ask("check", path, None, str(tmp_path / "asked")))
        await asyncio.sleep(0)
        quick.offer("check", path, None, str(tmp_path / "left out"))
        await asked

    asyncio.run(with_another())
    (tmp_path / "bad").write_bytes(b"bad")
    quick.offer("check", str(tmp_path / "bad"), None, str(tmp_path / "none"))  # Fails unheard.
    asyncio.run(quick.ask("check", path, None, str(tmp_path / "last")))
    assert (tmp_path / "last").exists()
    assert not (tmp_path / "left out").exists()
    assert not (tmp_path / "none").exists()


def test_nothing_is_offered_to_a_helper_that_was_stopped(tmp_path: Path) -> None:
    stopped = helper()
    stopped.stop()
    stopped.offer("check", photo(tmp_path, b"good"), None, str(tmp_path / "t"))
    assert not (tmp_path / "t").exists()


def test_more_than_it_can_do_is_refused(tmp_path: Path, quick: Helper) -> None:
    async def three() -> list[object]:
        path = photo(tmp_path, b"good")
        asked = [quick.ask("check", path, None, str(tmp_path / "t")) for _ in range(3)]
        return await asyncio.gather(*asked, return_exceptions=True)

    assert [isinstance(answer, BusyError) for answer in asyncio.run(three())].count(True) == 1
