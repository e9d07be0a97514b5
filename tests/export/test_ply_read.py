"""Claims about the container of PLY files, foremost that broken ones are refused."""

import random
from pathlib import Path

import pytest

from roundview.export.ply_read import read_elements

HEADER = "ply\nformat {} 1.0\nelement vertex 2\nproperty float x\nelement face 2\n"
HEADER += "property uchar flag\nproperty list uchar int index\nend_header\n"
TEXT = HEADER.format("ascii") + "0.5\n-2\n7 3 0 1 2\n8 2 4 5\n"
LITTLE = HEADER.format("binary_little_endian").encode() + bytes.fromhex(
    "0000003f 000000c0 07 03 00000000 01000000 02000000 08 02 04000000 05000000"
)


@pytest.mark.parametrize("data", [TEXT.encode(), LITTLE], ids=["text", "binary"])
def test_columns_and_uneven_lists_are_read(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.ply").write_bytes(data)
    elements = read_elements(tmp_path / "x.ply")
    assert elements["vertex"].columns["x"].tolist() == [0.5, -2.0]
    assert elements["face"].columns["flag"].tolist() == [7, 8]
    assert [row.tolist() for row in elements["face"].lists["index"]] == [[0, 1, 2], [4, 5]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a PLY"),
        ("ply\nformat ascii 1.0\n", "no end"),
        ("ply\nelement vertex 1\nend_header\n", "no format"),
        ("ply\nformat zip 1.0\nend_header\n", "no format"),
        ("ply\nformat ascii 1.0\nelement vertex -1\nend_header\n", "makes no sense"),
        ("ply\nformat ascii 1.0\nproperty float x\nend_header\n", "makes no sense"),
        (TEXT.replace("float", "quad"), "type that is not read"),
        (TEXT.replace("list uchar", "list float"), "type that is not read"),
        (TEXT.replace("vertex 2", "vertex 999999999999"), "ends inside"),
        (TEXT.replace("face 2", "face 999999999999"), "ends inside"),
        (TEXT.replace("7 3", "7 999"), "ends inside"),
        (TEXT.replace("7 3", "7 -3"), "ends inside"),
        (TEXT.replace("7 3", "7 inf"), "cannot read"),
        (TEXT.replace("-2", "two"), "should be"),
        (TEXT.replace("7 3 0", "7 3 1e20"), "too large"),
    ],
)
def test_broken_files_are_refused_in_one_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.ply").write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_elements(tmp_path / "x.ply")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"missing\.ply"):
        read_elements(tmp_path / "missing.ply")


@pytest.mark.parametrize("good", [TEXT.encode(), LITTLE], ids=["text", "binary"])
def test_no_damage_gives_anything_but_elements_or_a_value_error(
    good: bytes, tmp_path: Path
) -> None:
    dice = random.Random(0)
    refused = 0
    for _ in range(300):
        data = bytearray(good)
        for _ in range(dice.randint(1, 3)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        (tmp_path / "x.ply").write_bytes(data[: dice.randint(0, 2 * len(data))])
        try:
            read_elements(tmp_path / "x.ply")
        except ValueError:
            refused += 1
    assert refused > 100
