import sys
from pathlib import Path

import pytest
import torch
from checkpoints_tiny import midas_state
from hifi_tiny import Dome
from safetensors.torch import save_file

from roundview.importing import import_checkpoint
from roundview.loaders import Wanted
from roundview.loaders.dpt import asked_of_depth, public_depth, public_depth_card
from roundview.loaders.exporting import export_folder
from roundview.loaders.memory import room_for
from roundview.weights import WeightsMissing, load_tensors

transformers = pytest.importorskip("transformers")
CPU = torch.device("cpu")


def midas(path: Path) -> Path:
    save_file(midas_state(), path)
    return path


def test_a_file_of_midas_estimates_depth(tmp_path: Path) -> None:
    import_checkpoint(midas(tmp_path / "m.safetensors"), "dpt", tmp_path / "w")
    card = public_depth_card(Wanted(str(tmp_path / "w")))
    assert card is not None
    assert public_depth_card(Wanted()) is None
    model = public_depth(card, room_for([asked_of_depth(card)], CPU, None), Dome())
    assert model(torch.rand(1, 24, 24, 3))[0].shape == (1, 24, 24)
    with pytest.raises(ValueError, match="is not enough"):
        room_for([asked_of_depth(card)], CPU, 0.0001)


def test_without_transformers_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = midas(tmp_path / "m.safetensors")
    card = import_checkpoint(path, "dpt", tmp_path / "w")
    monkeypatch.setitem(sys.modules, "transformers", None)
    for asking in (
        lambda: asked_of_depth(card),
        lambda: import_checkpoint(path, "dpt", tmp_path / "again"),
    ):
        with pytest.raises(WeightsMissing, match="needs `pip install transformers`"):
            asking()


@torch.no_grad()
def test_transformers_estimates_the_same_from_the_folder_and_it_comes_back(tmp_path: Path) -> None:
    card = import_checkpoint(midas(tmp_path / "m.safetensors"), "dpt", tmp_path / "w")
    assert export_folder(card, tmp_path / "d") == ["depth_estimator"]
    place = tmp_path / "d" / "depth_estimator"
    theirs = transformers.DPTForDepthEstimation.from_pretrained(place).float().eval()
    model = public_depth(card, room_for([asked_of_depth(card)], CPU, None), Dome())
    picture = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(
        theirs(picture).predicted_depth, model.network(picture), atol=1e-5, rtol=1e-4
    )
    for folder in (tmp_path / "d", place):
        again = import_checkpoint(folder, "dpt", tmp_path / f"again {folder.name}")
        before, after = load_tensors(card), load_tensors(again)
        assert before.keys() == after.keys()
        assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
