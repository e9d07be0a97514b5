"""The short form of `files`: a hundred malformed files of each kind, and those that once broke."""

import json
import logging
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from roundview.export.obj import load_obj
from roundview.export.transforms import load_views
from roundview.weights import list_cards

from .files import MOST_MB, Outcome, read_many, read_one, write
from .sound import KINDS, posed, tensors
from .spoil import malformed


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What readers log of broken files is of no interest here."""
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("kind", KINDS)
def test_sound_files_are_read(kind: str, tmp_path: Path) -> None:
    for folder in KINDS[kind].folders():
        write(folder, tmp_path / "it")
        KINDS[kind].read(tmp_path / "it")


@pytest.mark.parametrize("kind", KINDS)
def test_malformed_files_are_read_or_refused(kind: str, tmp_path: Path) -> None:
    outcomes = [read_one(kind, seed, tmp_path / "it") for seed in range(100_000, 100_120)]
    assert [o for o in outcomes if o.ended not in ("read", "refused")] == []
    # Neither all noise nor all sound: both ways through a reader are tried.
    assert {o.ended for o in outcomes} == {"read", "refused"}


def test_the_same_seed_spoils_in_the_same_way() -> None:
    assert malformed("glb", 7) == malformed("glb", 7)
    assert malformed("glb", 7) != malformed("glb", 8)


def test_failures_are_counted_as_such() -> None:
    assert not Outcome("glb", 0, "refused", seconds=1.0, peak_mb=300.0).failed
    assert Outcome("glb", 0, "read", peak_mb=MOST_MB + 1).failed
    assert Outcome("glb", 0, "read", seconds=6.0).failed
    assert Outcome("glb", 0, "KeyError").failed


@pytest.mark.slow
def test_files_are_read_in_another_process(tmp_path: Path) -> None:
    outcomes = read_many("ply", range(5), tmp_path / "it")
    assert [o.seed for o in outcomes] == [0, 1, 2, 3, 4]
    assert not any(o.failed for o in outcomes)


def test_numbers_beyond_any_float_are_refused(tmp_path: Path) -> None:
    (folder, *_) = posed()
    told = json.loads(folder["transforms.json"])
    for key in ("fl_x", "w", "cx"):
        spoiled = json.dumps(told | {key: 10**400}).encode()
        write({**folder, "transforms.json": spoiled}, tmp_path / "it")
        with pytest.raises(ValueError, match="must be a number"):
            load_views(tmp_path / "it")
    told["frames"][0]["transform_matrix"][0][3] = 10**400
    write({**folder, "transforms.json": json.dumps(told).encode()}, tmp_path / "it")
    with pytest.raises(ValueError, match="not a matrix"):
        load_views(tmp_path / "it")


@pytest.mark.parametrize("name", ["a" * 300, "000.png/x", "\x00", "loop.png"])
def test_names_that_cannot_exist_are_missing(name: str, tmp_path: Path) -> None:
    (folder, *_) = posed()
    told = json.loads(folder["transforms.json"])
    told["frames"][0]["file_path"] = name
    write({**folder, "transforms.json": json.dumps(told).encode()}, tmp_path / "it")
    (tmp_path / "it" / "loop.png").symlink_to("loop.png")
    with pytest.raises(ValueError, match=r"missing|null"):
        load_views(tmp_path / "it")
    (tmp_path / "it" / "a.obj").write_text(f"mtllib {name}\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    if name != "\x00":
        assert len(load_obj(tmp_path / "it" / "a.obj").faces) == 1


@pytest.mark.parametrize(
    "spoiled",
    [{"file": 7}, {"file": "a" * 300}, {"settings": [1]}, {"licence": None}, {"sha256": {}}],
)
def test_cards_of_the_wrong_make_are_refused(spoiled: dict[str, object], tmp_path: Path) -> None:
    (folder,) = tensors()
    stated = json.loads(folder["w.json"]) | spoiled
    write({**folder, "w.json": json.dumps(stated).encode()}, tmp_path / "it")
    with pytest.raises(ValueError, match=r"no sense|plain file name"):
        list_cards(tmp_path / "it")


def test_a_profile_without_a_name_does_not_break_the_reader(tmp_path: Path) -> None:
    (folder, *_) = posed()
    body = b"nameless"
    chunk = struct.pack(">I", len(body)) + b"iCCP" + body
    chunk += struct.pack(">I", zlib.crc32(b"iCCP" + body))
    sound = folder["000.png"]
    # Behind the pixels, where decoders look last.
    spoiled = sound[:-12] + chunk + sound[-12:]
    write({**folder, "000.png": spoiled}, tmp_path / "it")
    with pytest.raises(ValueError, match="cannot read the picture"):
        load_views(tmp_path / "it")
