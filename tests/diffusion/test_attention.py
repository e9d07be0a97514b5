"""Self-attention that remembers and borrows."""

import pytest
import torch
from diffusers.models.attention_processor import Attention
from torch import nn

from roundview.diffusion.attention import AttentionLayers, Memory, Sharing, attend, self_attentions
from roundview.diffusion.checkpoints.unet import UNetShape
from roundview.diffusion.ldm_unet import LdmUNet


class TwoLayers(nn.Module):
    """Self-attention in the middle and on the way up; registered the other way round."""

    def __init__(self) -> None:
        super().__init__()
        self.up_blocks = nn.ModuleDict({"attn1": Attention(8, heads=2, dim_head=4)})
        self.mid_block = nn.ModuleDict({"attn1": Attention(8, heads=2, dim_head=4)})

    @property
    def middle(self) -> AttentionLayers:
        return self.get_submodule("mid_block.attn1")

    @property
    def last(self) -> AttentionLayers:
        return self.get_submodule("up_blocks.attn1")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.middle(x))


@pytest.fixture
def net() -> TwoLayers:
    torch.manual_seed(0)
    return TwoLayers().eval().requires_grad_(False)


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_attention_is_the_same_while_nothing_is_shared(net: TwoLayers) -> None:
    x = randn(3, 5, 8)
    before = net(x)
    sharing = Sharing(net)
    assert sharing.layers == 2
    torch.testing.assert_close(net(x), before)


def test_layers_count_in_the_order_they_are_asked(net: TwoLayers) -> None:
    assert self_attentions(net) == [net.middle, net.last]
    sharing, record = Sharing(net), Memory()
    x = randn(1, 5, 8)
    sharing.begin(record, None)
    net(x)
    assert torch.equal(record.held[0], x)
    late = Memory(first_layer=1)
    sharing.begin(late, None)
    net(x)
    assert list(late.held) == [1]


def test_borrowed_keys_and_values_are_those_of_the_other_picture(net: TwoLayers) -> None:
    sharing, layer = Sharing(net), net.middle
    other, x = randn(2, 5, 8, seed=1), randn(4, 5, 8, seed=2)
    sharing.begin(None, Memory(held={0: other}))
    ours = layer(x)
    # Rows of the memory are halves of the batch: two samples each.
    for row, sample in ((0, 0), (0, 1), (1, 2), (1, 3)):
        lent = other[row : row + 1]
        keys, values = (lent @ w.weight.mT for w in (layer.to_k, layer.to_v))
        out = attend(layer, x[sample : sample + 1], keys, values)
        projected = nn.Sequential(*layer.to_out)(out)
        torch.testing.assert_close(ours[sample : sample + 1], projected)


def test_a_picture_that_borrows_from_itself_stays_itself(net: TwoLayers) -> None:
    sharing, record, x = Sharing(net), Memory(), randn(1, 5, 8)
    sharing.begin(record, None)
    alone = net(x)
    sharing.begin(None, record)
    torch.testing.assert_close(net(x), alone)
    sharing.begin(None, Memory(held={0: randn(1, 5, 8, seed=9)}))
    assert float((net(x) - alone).abs().max()) > 1e-3


def test_attend_by_hand() -> None:
    layer = Attention(1, heads=1, dim_head=1, bias=False)
    nn.init.ones_(layer.to_q.weight)
    keys, values = torch.tensor([[[0.0], [1.0]]]), torch.tensor([[[10.0], [20.0]]])
    out = attend(layer, torch.tensor([[[2.0]]]), keys, values)
    share = torch.tensor([0.0, 2.0]).softmax(dim=0)
    torch.testing.assert_close(out.detach()[0, 0, 0], 10 * share[0] + 20 * share[1])


def test_the_layers_of_an_ldm_unet_can_be_shared() -> None:
    shape = UNetShape(5, 4, 32, (1, 1), 1, (True, False), (2, 2), 8)
    unet = LdmUNet(shape).unet
    # One on the way down, one in the middle, two on the way up.
    assert Sharing(unet).layers == 4


def test_a_network_without_self_attention_is_refused() -> None:
    with pytest.raises(ValueError, match="no self-attention"):
        Sharing(nn.Linear(1, 1))
