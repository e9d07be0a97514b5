"""A hundred pickles that would run code, at every door through which weights come: none runs."""

import io
import pickle
import pickletools
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from roundview.importing import PICKLES, read_checkpoint
from roundview.stages import Stages, seeded
from roundview.train.checkpoints import load_checkpoint
from roundview.weights import Card, digest_of, load_tensors

CALLS = (
    ("os", "system", "touch {mark}"),
    ("posix", "system", "touch {mark}"),
    ("subprocess", "getoutput", "touch {mark}"),
    ("builtins", "exec", "open({mark!r}, 'w')"),
    ("builtins", "eval", "open({mark!r}, 'w')"),
    ("__builtin__", "eval", "open({mark!r}, 'w')"),
    ("runpy", "_run_code", "open({mark!r}, 'w')"),
    ("pathlib", "Path.touch", "{mark}"),
    ("torch.serialization", "os.system", "touch {mark}"),
    ("pytorch_lightning.os", "system", "touch {mark}"),
    ("omegaconf", "os.system", "touch {mark}"),
    ("torch", "hub.load", "{mark}"),
    ("numpy", "fromfile", "{mark}"),
)


def program(module: str, name: str, argument: str, *, way: int) -> bytes:
    """A pickle that calls a function: by the old opcodes, by new ones, by a state, or in a dict."""
    text = argument.replace("\n", " ").encode()
    called = f"c{module}\n{name}\n".encode()
    stacked = b"\x80\x04\x8c" + bytes([len(module)]) + module.encode()
    stacked += b"\x8c" + bytes([len(name)]) + name.encode() + b"\x93"
    given = b"(X" + len(text).to_bytes(4, "little") + text + b"t"
    match way:
        case 0:
            return called + given + b"R."
        case 1:
            return stacked + given + b"R."
        case 2:
            return b"}(X\x01\x00\x00\x00w" + called + given + b"Ru."
        case 3:
            # INST: the arguments come first.
            return b"(X" + len(text).to_bytes(4, "little") + text + f"i{module}\n{name}\n.".encode()
        case _:
            # NEWOBJ with a state to set.
            return b"\x80\x02" + called + b")\x81" + given[1:-1] + b"b."


def zipped(payload: bytes) -> bytes:
    """The payload where torch keeps its pickle."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", payload)
        archive.writestr("archive/version", "3\n")
    return out.getvalue()


def legacy(payload: bytes) -> bytes:
    """The payload behind the numbers that torch wrote before it wrote archives."""
    numbers = [torch.serialization.MAGIC_NUMBER, torch.serialization.PROTOCOL_VERSION, {}]
    return b"".join(pickle.dumps(number, protocol=2) for number in numbers) + payload


WRAPS: tuple[Callable[[bytes], bytes], ...] = (bytes, zipped, legacy)
CASES = [
    (module, name, argument, way, wrap)
    for module, name, argument in CALLS
    for way in range(5)
    for wrap in WRAPS
]


def import_it(path: Path) -> None:
    for suffix in (*PICKLES, ".safetensors"):
        named = path.with_suffix(suffix)
        named.write_bytes(path.read_bytes())
        with pytest.raises(ValueError, match=r"refused|no whole|holds no table"):
            read_checkpoint(named)


def load_as_weights(path: Path) -> None:
    card = Card("w", "orbit", path.name, digest_of(path), "MIT", "a stranger", folder=path.parent)
    with pytest.raises(ValueError, match="no safetensors"):
        load_tensors(card)


def go_on_from_it(path: Path) -> None:
    with pytest.raises(ValueError, match="checkpoint"):
        load_checkpoint(path)


def find_it_as_a_stage(path: Path) -> None:
    folder = path.parent / "stages"
    folder.mkdir(exist_ok=True)
    (folder / "00-matte.safetensors").write_bytes(path.read_bytes())
    stages = Stages(seeded(0), directory=folder, identity="x", resume=True)
    assert stages.started_over


DOORS = (import_it, load_as_weights, go_on_from_it, find_it_as_a_stage)


def test_there_are_over_a_hundred_and_they_are_pickles(tmp_path: Path) -> None:
    assert len(CASES) > 100
    for module, name, argument, way, _ in CASES:
        assert list(pickletools.genops(program(module, name, argument, way=way)))
    # And this one would bite: read carelessly, it runs.
    mark = tmp_path / "bitten"
    pickle.loads(program("builtins", "eval", f"open({str(mark)!r}, 'w').close()", way=0))
    assert mark.exists()


@pytest.mark.parametrize("door", DOORS, ids=lambda d: d.__name__)
def test_none_is_run(door: Callable[[Path], None], tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = tmp_path / "weights.ckpt"
    for module, name, argument, way, wrap in CASES:
        path.write_bytes(wrap(program(module, name, argument.format(mark=str(mark)), way=way)))
        door(path)
        assert not mark.exists(), f"{module}.{name} was run"
