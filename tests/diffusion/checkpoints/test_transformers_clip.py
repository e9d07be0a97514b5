import pytest
import torch
from checkpoints_tiny import NAMED_TEXT

from roundview.diffusion.checkpoints.transformers_clip import (
    Joined,
    NamedText,
    named_text_shape_from_state,
    tower_config,
    tower_names,
    tower_shape,
)
from roundview.diffusion.clip import VIT_H_14, VIT_L_14, ClipShape, ClipTower
from roundview.diffusion.clip_text import ClipTextShape

TINY = ClipShape(width=64, layers=2, heads=2, patch=14, side=28, out=24, quick=True)


def test_three_of_theirs_are_one_of_ours_and_come_apart_again() -> None:
    three = [torch.full((2, 3), float(k)) for k in range(3)]
    joined = Joined("in", ("q", "k", "v"))
    whole = joined.join(three)
    assert whole[:, 0].tolist() == [0, 0, 1, 1, 2, 2]
    assert all(torch.equal(a, b) for a, b in zip(joined.part(whole), three, strict=True))


def test_a_turned_one_is_turned_back() -> None:
    theirs = torch.arange(6.0).reshape(2, 3)
    joined = Joined("proj", ("visual_projection.weight",), turned=True)
    assert joined.join([theirs]).shape == (3, 2)
    assert torch.equal(joined.part(joined.join([theirs]))[0], theirs)


@pytest.mark.parametrize("shape", [VIT_L_14, VIT_H_14, TINY])
def test_sizes_go_there_and_back(shape: ClipShape) -> None:
    assert tower_shape({**tower_config(shape), "architectures": ["x"]}) == shape


def test_a_tower_without_projection_has_one_without_columns() -> None:
    shape = tower_shape({**tower_config(TINY), "architectures": ["CLIPVisionModel"]})
    assert shape.out == 0
    names, joined = tower_names(ClipTower(shape))
    assert "proj" not in names
    assert all(each.ours != "proj" for each in joined)


def test_an_unknown_activation_is_told() -> None:
    with pytest.raises(ValueError, match="activation 'relu' is unknown"):
        tower_shape({"hidden_act": "relu"})


def test_every_tensor_has_the_name_that_transformers_gives_it() -> None:
    transformers = pytest.importorskip("transformers")
    config = {k: v for k, v in tower_config(TINY).items() if k != "model_type"}
    theirs = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**config))
    names, joined = tower_names(ClipTower(TINY))
    told = {*names.values(), *(name for each in joined for name in each.theirs)}
    assert told == set(theirs.state_dict())


def test_the_names_of_transformers_are_kept_in_a_file_of_stable_diffusion_1() -> None:
    tower = NamedText(NAMED_TEXT)
    original = tower.layout().to_original(tower.state_dict())
    assert named_text_shape_from_state(original) == NAMED_TEXT
    assert original["text_model.encoder.layers.1.self_attn.k_proj.weight"].shape == (64, 64)
    joined = tower.state_dict()["transformer.resblocks.1.attn.in_proj_weight"]
    assert torch.equal(
        joined[64:128], original["text_model.encoder.layers.1.self_attn.k_proj.weight"]
    )
    with pytest.raises(ValueError, match="no CLIP text tower: it lacks"):
        named_text_shape_from_state({})


def test_the_full_text_tower_has_the_tensors_of_transformers_vit_l_14() -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
    config = transformers.CLIPTextConfig(**sizes, num_hidden_layers=12)
    with torch.device("meta"):
        theirs = transformers.CLIPTextModel(config).state_dict()
        ours = NamedText(ClipTextShape(768, 12, 12, out=0, quick=True, skipped=0))
    named = {n.removeprefix("text_model."): t.shape for n, t in theirs.items()}
    named.pop("embeddings.position_ids", None)
    found = ours.layout().to_original(ours.state_dict())
    assert {n.removeprefix("text_model."): t.shape for n, t in found.items()} == named
    # OpenAI's ViT-L/14 has so many, without its projection.
    assert sum(t.numel() for t in found.values()) == 123_060_480
