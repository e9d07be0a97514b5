import json
from pathlib import Path

import pytest
import torch

from roundview.weights import (
    DEFAULTS,
    SHIPPED,
    Card,
    WeightsMissing,
    card,
    find,
    for_record,
    list_cards,
    load_tensors,
    named,
    save_weights,
    verify,
)


@pytest.fixture
def saved(tmp_path: Path) -> Card:
    blank = Card(
        name="mine",
        kind="orbit",
        file="mine.safetensors",
        sha256="",
        licence="Apache-2.0",
        source="this test",
        commercial_use=True,
        trained_on="nothing",
        settings={"width": 8, "sides": [1, 2]},
        facts={"steps": 3},
        folder=tmp_path,
    )
    return save_weights({"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.ones(1)}, blank)


def test_saved_weights_come_back_with_their_card(saved: Card) -> None:
    assert list_cards(saved.folder) == [saved]
    assert saved.facts["bytes"] == saved.path.stat().st_size
    tensors = load_tensors(saved)
    torch.testing.assert_close(tensors["a"], torch.arange(6.0).reshape(2, 3).T, rtol=0, atol=0)


def test_a_changed_byte_is_noticed(saved: Card) -> None:
    data = bytearray(saved.path.read_bytes())
    data[-1] ^= 1
    saved.path.write_bytes(bytes(data))
    with pytest.raises(WeightsMissing, match="damaged"):
        load_tensors(saved)


def test_a_missing_file_names_the_command_that_gets_it(saved: Card) -> None:
    saved.path.unlink()
    with pytest.raises(WeightsMissing, match="roundview train mine"):
        verify(saved)


def test_pickles_are_not_read(saved: Card) -> None:
    torch.save({"a": torch.ones(1)}, saved.path)
    stated = json.loads((saved.folder / "mine.json").read_text())
    import hashlib  # noqa: PLC0415  only here

    stated["sha256"] = hashlib.sha256(saved.path.read_bytes()).hexdigest()
    (saved.folder / "mine.json").write_text(json.dumps(stated))
    with pytest.raises(ValueError, match="no safetensors"):
        load_tensors(list_cards(saved.folder)[0])


def test_find_prefers_what_was_named_and_falls_back_to_the_shipped(saved: Card) -> None:
    for where in (str(saved.folder), str(saved.folder / "mine.json")):
        assert find("orbit", where) == saved
        assert find("matte", where).name == DEFAULTS["matte"]
    assert find("matte", "u2netp").name == "u2netp"


def test_wrong_names_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"no weights are called 'unheard-of'; there are: .*u2netp"
    ):
        card("unheard-of")
    with pytest.raises(ValueError, match="holds no weight card"):
        named(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "no weight card"),
        ("[]", "lacks name"),
        ('{"name": "a", "kind": "orbit"}', "lacks file, sha256, licence, source"),
    ],
)
def test_broken_cards_are_refused(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=complaint):
        list_cards(tmp_path)


def test_a_card_cannot_point_out_of_its_folder(saved: Card) -> None:
    path = saved.folder / "mine.json"
    path.write_text(path.read_text().replace("mine.safetensors", "../mine.safetensors"))
    with pytest.raises(ValueError, match="plain file name"):
        list_cards(saved.folder)


def test_shipped_weights_are_whole_and_their_licences_free() -> None:
    cards = list_cards()
    assert {"u2netp", "efficientnet-lite0"} <= {c.name for c in cards}
    for shipped in cards:
        verify(shipped)
        assert shipped.kind in DEFAULTS
        assert shipped.commercial_use
        assert shipped.licence == "Apache-2.0"
    # Weights without a card would be used without a licence.
    stated = {c.file for c in cards}
    assert {p.name for p in SHIPPED.iterdir() if p.suffix != ".json"} == stated


def test_a_record_states_the_licence_and_the_hash(saved: Card) -> None:
    stated = for_record(saved)
    assert stated["licence"] == "Apache-2.0"
    assert stated["sha256"] == saved.sha256
    assert json.loads(json.dumps(stated)) == stated
