import pytest
import torch

from roundview.diffusion.clip import (
    VIT_H_14,
    VIT_L_14,
    ClipShape,
    ClipTower,
    clip_input,
    clip_shape_from_config,
    clip_shape_from_state,
)

SMALL = ClipShape(width=32, layers=2, heads=2, patch=14, side=28, out=12, quick=True)


def filled(shape: ClipShape) -> ClipTower:
    tower = ClipTower(shape).eval()
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=rng))
    return tower


@torch.no_grad()
def test_the_tower_is_that_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    for quick in (True, False):
        shape = ClipShape(width=32, layers=2, heads=2, patch=14, side=28, out=12, quick=quick)
        ours = filled(shape)
        config = transformers.CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=28,
            patch_size=14,
            projection_dim=12,
            hidden_act="quick_gelu" if quick else "gelu",
        )
        theirs = transformers.CLIPVisionModelWithProjection(config).eval()
        theirs.load_state_dict(_in_their_names(ours.state_dict()), strict=True)
        picture = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(
            ours(picture), theirs(picture).image_embeds, atol=1e-5, rtol=1e-4
        )


def _in_their_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    found = {
        "vision_model.embeddings.class_embedding": state["class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": state["conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": state["positional_embedding"],
        "visual_projection.weight": state["proj"].T,
    }
    for kind in ("weight", "bias"):
        found[f"vision_model.pre_layrnorm.{kind}"] = state[f"ln_pre.{kind}"]
        found[f"vision_model.post_layernorm.{kind}"] = state[f"ln_post.{kind}"]
        for i in range(2):
            here, there = f"transformer.resblocks.{i}.", f"vision_model.encoder.layers.{i}."
            parts = state[f"{here}attn.in_proj_{kind}"].chunk(3)
            for name, part in zip("qkv", parts, strict=True):
                found[f"{there}self_attn.{name}_proj.{kind}"] = part
            for a, b in (
                ("attn.out_proj", "self_attn.out_proj"),
                ("ln_1", "layer_norm1"),
                ("ln_2", "layer_norm2"),
                ("mlp.c_fc", "mlp.fc1"),
                ("mlp.c_proj", "mlp.fc2"),
            ):
                found[f"{there}{b}.{kind}"] = state[f"{here}{a}.{kind}"]
    return found


def test_the_shape_is_read_off_the_tensors() -> None:
    with torch.device("meta"):
        for shape in (VIT_L_14, VIT_H_14):
            assert clip_shape_from_state(ClipTower(shape).state_dict()) == shape
    with pytest.raises(ValueError, match="no CLIP image tower"):
        clip_shape_from_state({"conv1.weight": torch.zeros(2, 3, 4, 4)})


def test_full_towers_have_as_many_numbers_as_published() -> None:
    with torch.device("meta"):
        count = sum(p.numel() for p in ClipTower(VIT_H_14).parameters())
    assert count == 632_076_800


def test_a_configuration_of_open_clip_is_read() -> None:
    told = {
        "embed_dim": 12,
        "vision_cfg": {
            "image_size": 28,
            "layers": 2,
            "width": 32,
            "head_width": 16,
            "patch_size": 14,
        },
    }
    shape = clip_shape_from_config(told)
    assert (shape.heads, shape.out, shape.side, shape.quick) == (2, 12, 28, False)
    with pytest.raises(ValueError, match="width"):
        clip_shape_from_config({"vision_cfg": {}})


def test_a_flat_colour_stays_flat_and_is_normalised() -> None:
    grey = torch.zeros(1, 3, 256, 256)
    for antialias in (True, False):
        prepared = clip_input(grey, antialias=antialias)
        assert prepared.shape == (1, 3, 224, 224)
        expected = torch.tensor([(0.5 - 0.48145466) / 0.26862954])
        torch.testing.assert_close(prepared[0, 0].flatten()[:1], expected)
        assert float(prepared[0, 0].std()) < 1e-5


def test_the_corners_of_both_grids_are_in_one_place() -> None:
    ramp = torch.linspace(-1, 1, 256).expand(1, 3, 256, 256)
    prepared = clip_input(ramp, antialias=False)[0, 0, 0] * 0.26862954 + 0.48145466
    assert float(prepared[0]) == pytest.approx(0.0, abs=1e-5)
    assert float(prepared[-1]) == pytest.approx(1.0, abs=1e-5)


def test_blurring_before_shrinking_takes_fine_stripes_away() -> None:
    stripes = torch.tensor([-1.0, 1.0]).repeat(448).expand(1, 3, 896, 896)
    sharp, blurred = (clip_input(stripes, antialias=flag)[0, 0] for flag in (False, True))
    assert float(blurred.std()) < 0.3 * float(sharp.std())
