import json

import pytest
import torch
from torch import Tensor

from roundview.diffusion.checkpoints.dpt import DptShape, dpt_config, dpt_layout, dpt_shape
from roundview.diffusion.checkpoints.families import original_state, read_networks
from roundview.diffusion.dpt import DptHybrid, dpt_shape_from_state

pytest.importorskip("transformers")
TINY = DptShape(64, 4, 1, 128, (0, 1, 2, 3), 32, 32, (128, 128, 128), (1, 2, 1), 32)
TRUNK = "pretrained.model."


def full_size() -> dict[str, Tensor]:
    with torch.device("meta"):
        network = DptHybrid()
    return network.layout().to_original(network.state_dict())


def test_the_full_size_has_the_names_of_midas_and_the_shape_is_read_off() -> None:
    state = full_size()
    # By hand from MiDaS' and timm's classes: 12 blocks of 12 tensors; 16 bottlenecks of three
    # convolutions and normalisations, three of them with a fourth; stem, projection, tokens, norm.
    blocks, bottlenecks, rest = 12 * 12, 16 * 9 + 3 * 3, 3 + 2 + 2 + 2
    # Two readouts, two 1x1 convolutions, one of stride two; 4 maps; 4 x (4 convolutions, one out);
    # three convolutions at the end.
    head = 2 * 2 + 2 * 2 + 2 + 4 + 4 * (4 * 2 + 2) + 3 * 2
    assert len(state) == blocks + bottlenecks + rest + head
    assert sum(tensor.numel() for tensor in state.values()) == 122_377_985
    shapes = {
        f"{TRUNK}pos_embed": (1, 577, 768),
        f"{TRUNK}blocks.11.attn.qkv.weight": (2304, 768),
        f"{TRUNK}patch_embed.backbone.stem.conv.weight": (64, 3, 7, 7),
        f"{TRUNK}patch_embed.backbone.stages.2.blocks.8.conv3.weight": (1024, 256, 1, 1),
        f"{TRUNK}patch_embed.backbone.stages.0.blocks.0.downsample.norm.weight": (256,),
        f"{TRUNK}patch_embed.proj.weight": (768, 1024, 1, 1),
        "pretrained.act_postprocess3.0.project.0.weight": (768, 1536),
        "pretrained.act_postprocess4.3.weight": (768, 768, 1, 1),
        "pretrained.act_postprocess4.4.weight": (768, 768, 3, 3),
        "scratch.layer1_rn.weight": (256, 256, 3, 3),
        "scratch.layer4_rn.weight": (256, 768, 3, 3),
        "scratch.refinenet4.resConfUnit1.conv1.bias": (256,),
        "scratch.refinenet1.out_conv.weight": (256, 256, 1, 1),
        "scratch.output_conv.4.weight": (1, 32, 1, 1),
    }
    assert {name: tuple(state[name].shape) for name in shapes} == shapes
    assert dpt_shape_from_state(state) == DptShape()


def test_a_file_comes_apart_and_together_again_to_the_bit() -> None:
    torch.manual_seed(0)
    network = DptHybrid(TINY)
    state = network.layout().to_original(network.state_dict())
    # MiDaS keeps the classifier that its transformer was trained with.
    held = {**state, f"{TRUNK}head.weight": torch.ones(10, 64), f"{TRUNK}head.bias": torch.ones(10)}
    networks, sizes = read_networks("dpt", held)
    back = original_state(networks, sizes)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())
    inside = {f"depth_model.model.{name}": tensor for name, tensor in held.items()}
    assert read_networks("dpt", inside)[1]["depth_estimator"]["prefix"] == "depth_model.model."


def test_queries_come_before_keys_and_keys_before_values() -> None:
    network = DptHybrid(TINY)
    state = network.layout().to_original(network.state_dict())
    name = f"{TRUNK}blocks.2.attn.qkv.bias"
    state[name] = torch.cat([torch.full((64,), float(k)) for k in range(3)])
    ours = network.layout().to_ours(state)
    for k, part in enumerate(("query", "key", "value")):
        found = ours[f"net.dpt.encoder.layer.2.attention.attention.{part}.bias"]
        assert torch.equal(found, torch.full((64,), float(k)))
    with pytest.raises(ValueError, match=r"qkv\.bias is 191: no 3 equal parts"):
        network.layout().to_ours({**state, name: torch.zeros(191)})


def test_a_missing_and_a_strange_tensor_are_named() -> None:
    state = full_size()
    missing = {n: t for n, t in state.items() if n != f"{TRUNK}blocks.3.norm1.bias"}
    with pytest.raises(ValueError, match=r"lacks pretrained\.model\.blocks\.3\.norm1\.bias"):
        read_networks("dpt", missing)
    with pytest.raises(ValueError, match=r"has unknown scratch\.refinenet1\.extra"):
        read_networks("dpt", {**state, "scratch.refinenet1.extra": torch.ones(1)})
    with pytest.raises(ValueError, match=r"no name is known for neck\.what"):
        dpt_layout(["net.neck.what"], before="net.")


@pytest.mark.parametrize("shape", [DptShape(), TINY])
def test_sizes_go_to_transformers_and_back(shape: DptShape) -> None:
    assert dpt_shape(json.loads(json.dumps(dpt_config(shape)))) == shape


def test_what_transformers_leaves_out_is_as_in_midas() -> None:
    assert dpt_shape({"is_hybrid": True}) == DptShape()
    with pytest.raises(ValueError, match="only DPT-hybrid"):
        dpt_shape({"hidden_size": 1024})
