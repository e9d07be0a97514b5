import io
import os
import pickle
import sys
import types
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from checkpoints_tiny import zero123_state
from safetensors.torch import load_file, save_file
from torch import Tensor

from roundview.diffusion.checkpoints.families import empty_networks, original_state
from roundview.importing import import_checkpoint, read_checkpoint, unwrapped, with_means
from roundview.weights import list_cards, load_tensors, verify


def test_a_lightning_file_becomes_safetensors_and_a_card(tmp_path: Path) -> None:
    state = zero123_state()
    torch.save({"state_dict": state, "global_step": 3}, tmp_path / "z.ckpt")
    card = import_checkpoint(tmp_path / "z.ckpt", "zero123", tmp_path / "out")
    (found,) = list_cards(tmp_path / "out")
    verify(found)
    assert (found.name, found.kind, found.file) == ("z", "zero123", "z.safetensors")
    assert found.facts["parameters"] == sum(tensor.numel() for tensor in state.values())
    assert card.sha256 == found.sha256
    assert load_tensors(found)["net.cc_projection.weight"].dtype == torch.float16


def test_original_to_ours_to_original_is_the_same_to_the_bit(tmp_path: Path) -> None:
    state = zero123_state()
    save_file(state, tmp_path / "z.safetensors")
    card = import_checkpoint(tmp_path / "z.safetensors", "zero123", tmp_path / "out")
    networks = empty_networks("zero123", card.settings)
    tensors = load_tensors(card)
    for part, network in networks.items():
        own = {n.removeprefix(f"{part}."): t for n, t in tensors.items() if n.startswith(part)}
        network.load_state_dict(own, assign=True)
    back = original_state(networks, card.settings)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name].float(), tensor) for name, tensor in state.items())


def test_means_of_the_weights_are_preferred() -> None:
    state = {
        "model.diffusion_model.a.weight": torch.zeros(2),
        "model_ema.diffusion_modelaweight": torch.ones(2),
        "model_ema.decay": torch.tensor(0.9),
        "cc_projection.weight": torch.zeros(1),
    }
    found = with_means(state)
    assert found.keys() == {"model.diffusion_model.a.weight", "cc_projection.weight"}
    assert found["model.diffusion_model.a.weight"].tolist() == [1.0, 1.0]


def test_wrappings_of_trainers_are_taken_off() -> None:
    tensor = torch.ones(1)
    for held in (
        {"a": tensor, "step": 3},
        {"state_dict": {"a": tensor}},
        {"module": {"module.a": tensor}, "optimizer": None},
    ):
        assert unwrapped(held).keys() == {"a"}
    for held in ([tensor], {"epoch": 1}, None):
        with pytest.raises(ValueError, match="no table of tensors"):
            unwrapped(held)


def test_what_lightning_leaves_beside_the_weights_is_an_inert_husk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = []

    class ModelCheckpoint:
        def __init__(self) -> None:
            self.best = 1.0

        def __setstate__(self, state: object) -> None:
            ran.append(state)

    ModelCheckpoint.__module__ = "pytorch_lightning.callbacks"
    ModelCheckpoint.__qualname__ = "ModelCheckpoint"
    module = types.ModuleType("pytorch_lightning.callbacks")
    module.ModelCheckpoint = ModelCheckpoint  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "pytorch_lightning", types.ModuleType("pytorch_lightning"))
    monkeypatch.setitem(sys.modules, "pytorch_lightning.callbacks", module)
    torch.save({"state_dict": {"a": torch.ones(1)}, "c": ModelCheckpoint()}, tmp_path / "x.ckpt")
    monkeypatch.undo()
    assert read_checkpoint(tmp_path / "x.ckpt")["a"].tolist() == [1.0]
    assert not ran


class Payload:
    """Touches a file when it is unpickled by something careless."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_payload_is_refused_by_name_and_never_run(tmp_path: Path, legacy: bool) -> None:
    sign = tmp_path / "ran"
    held = {"state_dict": {"a": torch.ones(1)}, "x": Payload(f"touch {sign}")}
    torch.save(held, tmp_path / "x.ckpt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ValueError, match=r"is refused: its pickle asks for .*system"):
        read_checkpoint(tmp_path / "x.ckpt")
    assert not sign.exists()


def test_an_archive_that_swells_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"\x00" * 10_000_000)
    with pytest.raises(ValueError, match=r"x/data\.pkl in it is compressed"):
        read_checkpoint(tmp_path / "bomb.pt")


def _saved(held: object, *, legacy: bool = False) -> bytes:
    stream = io.BytesIO()
    torch.save(held, stream, _use_new_zipfile_serialization=not legacy)
    return stream.getvalue()


def _without(name: str) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in zero123_state(tower=False).items() if key != name}


def _changed(name: str, tensor: Tensor) -> dict[str, Tensor]:
    return {**zero123_state(tower=False), name: tensor}


_HEAD = "model.diffusion_model."
DAMAGE: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "no pickle": lambda: b"hello",
    "html": lambda: b"<!DOCTYPE html><html>Not found</html>",
    "cut in the middle": lambda: _saved(zero123_state())[: 1 << 16],
    "cut at the end": lambda: _saved(zero123_state())[:-40],
    "cut, old format": lambda: _saved(zero123_state(), legacy=True)[: 1 << 16],
    "a tensor alone": lambda: _saved(torch.ones(3)),
    "a list": lambda: _saved([torch.ones(3)]),
    "no tensors": lambda: _saved({"state_dict": {}}),
    "only numbers": lambda: _saved({"a": 1, "b": 2.0}),
    "another model": lambda: _saved({"layer1.0.conv1.weight": torch.ones(4, 4, 3, 3)}),
    "one key missing": lambda: _saved(_without(f"{_HEAD}out.2.bias")),
    "first layer missing": lambda: _saved(_without(f"{_HEAD}input_blocks.0.0.weight")),
    "projection missing": lambda: _saved(_without("cc_projection.weight")),
    "decoder missing": lambda: _saved(_without("first_stage_model.decoder.conv_out.weight")),
    "a strange key": lambda: _saved(_changed(f"{_HEAD}out.3.bias", torch.ones(4))),
    "wrong shape": lambda: _saved(_changed(f"{_HEAD}out.2.bias", torch.ones(5))),
    "wrong shape inside": lambda: _saved(
        _changed(f"{_HEAD}middle_block.0.in_layers.0.weight", torch.ones(31))
    ),
    "not a number": lambda: _saved(_changed(f"{_HEAD}out.2.bias", torch.full((4,), torch.nan))),
    "infinite": lambda: _saved(_changed(f"{_HEAD}out.2.bias", torch.full((4,), torch.inf))),
    "a scalar for a matrix": lambda: _saved(_changed("cc_projection.weight", torch.tensor(1.0))),
    "plain pickle of a function": lambda: pickle.dumps(os.getcwd),
    "plain pickle of a table": lambda: pickle.dumps({"a": 1}),
    "pickle bomb of lists": lambda: b"\x80\x02" + b"]" * 2000 + b"a" * 1999 + b".",
    "deep nonsense": lambda: b"\x80\x05" + bytes(range(256)) * 20,
}
DAMAGED_SAFE: dict[str, bytes] = {
    "empty": b"",
    "header longer than the file": (1 << 40).to_bytes(8, "little") + b"{}",
    "header of a terabyte": b"\xff" * 8,
    "header no JSON": (4).to_bytes(8, "little") + b"{{{{",
    "offsets beyond the end": (58).to_bytes(8, "little")
    + b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,1600]}} ',
    "a pickle with another suffix": b"\x80\x04K\x01.",
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_checkpoint_is_one_clear_error_and_leaves_nothing(
    tmp_path: Path, what: str
) -> None:
    path = tmp_path / "bad.ckpt"
    path.write_bytes(DAMAGE[what]())
    with pytest.raises(ValueError, match=r"\S") as told:
        import_checkpoint(path, "zero123", tmp_path / "out")
    assert len(str(told.value)) < 400
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("what", ["plain pickle of a function", "deep nonsense"])
def test_torch_s_own_warnings_do_not_stand_beside_the_error(tmp_path: Path, what: str) -> None:
    path = tmp_path / "bad.ckpt"
    path.write_bytes(DAMAGE[what]())
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with pytest.raises(ValueError, match=r"no whole checkpoint|is refused"):
            import_checkpoint(path, "zero123", tmp_path / "out")
    assert said == []


@pytest.mark.parametrize("what", DAMAGED_SAFE)
def test_a_damaged_safetensors_file_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(DAMAGED_SAFE[what])
    with pytest.raises(ValueError, match="no whole safetensors file"):
        import_checkpoint(path, "zero123", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_unknown_kinds_and_suffixes_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--kind 'zero' is unknown; there are: zero123, svd"):
        import_checkpoint(tmp_path / "x.ckpt", "zero", tmp_path)
    with pytest.raises(ValueError, match="is no file"):
        read_checkpoint(tmp_path / "x.ckpt")
    (tmp_path / "x.onnx").write_bytes(b"")
    with pytest.raises(ValueError, match="none of the kinds"):
        read_checkpoint(tmp_path / "x.onnx")


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    state = zero123_state(tower=False)
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "b.pt")
    a, b = read_checkpoint(tmp_path / "a.safetensors"), read_checkpoint(tmp_path / "b.pt")
    assert a.keys() == b.keys() == load_file(tmp_path / "a.safetensors").keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
