import math

import pytest
import torch
from checkpoints_tiny import MIDAS
from hifi_tiny import Dome
from torch import Tensor

from roundview.diffusion.dpt import DptDepth, DptHybrid, dpt_shape_from_state
from roundview.models import DepthModel

pytest.importorskip("transformers")


def network() -> DptHybrid:
    torch.manual_seed(0)
    return DptHybrid(MIDAS).eval()


def test_pictures_of_any_size_have_maps_of_theirs() -> None:
    model = DptDepth(network(), Dome())
    assert isinstance(model, DepthModel)
    rgb = torch.rand(2, 40, 48, 3, generator=torch.Generator().manual_seed(1))
    inverse, normal = model(rgb)
    assert inverse.shape == (2, 40, 48)
    assert float(inverse.min()) >= 0
    assert torch.equal(normal, Dome()(rgb)[1])
    torch.testing.assert_close(model(rgb[1:])[0], inverse[1:], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_colours_are_told_from_minus_one_to_one() -> None:
    net = network()
    grey = torch.full((1, 32, 32, 3), 0.75)
    inverse = DptDepth(net, Dome())(grey)[0]
    plain = net(torch.full((1, 3, 32, 32), 0.5))
    torch.testing.assert_close(inverse, plain / plain.max(), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_transformer_is_the_paper_s() -> None:
    """One block by hand from tensors in MiDaS' names: timm's pre-norm attention and its MLP."""
    net = network()
    state = net.layout().to_original(net.state_dict())
    x = torch.randn(1, 5, 64, generator=torch.Generator().manual_seed(2))

    def part(name: str) -> Tensor:
        return state[f"pretrained.model.blocks.1.{name}"]

    def normed(y: Tensor, name: str) -> Tensor:
        return torch.nn.functional.layer_norm(
            y, (64,), part(f"{name}.weight"), part(f"{name}.bias"), 1e-6
        )

    q, k, v = (normed(x, "norm1") @ part("attn.qkv.weight").T + part("attn.qkv.bias")).chunk(3, -1)
    seen = (q @ k.mT / math.sqrt(64)).softmax(-1) @ v
    y = x + seen @ part("attn.proj.weight").T + part("attn.proj.bias")
    hidden = normed(y, "norm2") @ part("mlp.fc1.weight").T + part("mlp.fc1.bias")
    y = y + torch.nn.functional.gelu(hidden) @ part("mlp.fc2.weight").T + part("mlp.fc2.bias")
    block = net.net.dpt.encoder.layer[1]
    out = block(x)
    out = out[0] if isinstance(out, tuple) else out
    torch.testing.assert_close(out, y, atol=1e-5, rtol=1e-4)


def test_what_is_no_dpt_is_refused() -> None:
    with pytest.raises(ValueError, match="no DPT-hybrid of MiDaS: it lacks"):
        dpt_shape_from_state({"pretrained.model.cls_token": torch.zeros(1, 1, 8)})
