import pytest
import torch
from torch import nn

from roundview.diffusion.checkpoints.layout import (
    Layout,
    Part,
    layout_of,
    load_original,
    under,
)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 3)
        self.last = nn.Linear(3, 1, bias=False)


PARTS = [Part("first.", "in.0."), Part("last.", "out.", flat=("weight",))]


def original() -> dict[str, torch.Tensor]:
    return {
        "in.0.weight": torch.arange(6.0).reshape(3, 2),
        "in.0.bias": torch.ones(3),
        "out.weight": torch.full((1, 3, 1, 1), 2.0),
    }


def test_a_network_is_filled_and_comes_back_as_it_was() -> None:
    net = Net()
    load_original(net, layout_of(net, PARTS), original())
    assert net.last.weight.tolist() == [[2.0, 2.0, 2.0]]
    back = layout_of(net, PARTS).to_original(net.state_dict())
    assert back.keys() == original().keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in original().items())


def test_a_missing_and_a_strange_tensor_are_named() -> None:
    net = Net()
    state = original()
    state["in.0.blas"] = state.pop("in.0.bias")
    with pytest.raises(ValueError, match=r"lacks in\.0\.bias and has unknown in\.0\.blas"):
        load_original(net, layout_of(net, PARTS), state)


def test_many_names_are_cut_short() -> None:
    with pytest.raises(ValueError, match=r"lacks a, b, c and 2 more"):
        Layout({name: name for name in "abcde"}).to_ours({})


def test_a_tensor_of_another_shape_is_named() -> None:
    state = original() | {"in.0.bias": torch.ones(4)}
    with pytest.raises(ValueError, match=r"in\.0\.bias is 4, not 3"):
        load_original(Net(), layout_of(Net(), PARTS), state)


def test_a_broken_number_is_found() -> None:
    state = original() | {"in.0.bias": torch.tensor([0.0, float("nan"), 0.0])}
    with pytest.raises(ValueError, match=r"NaN or infinity in in\.0\.bias"):
        load_original(Net(), layout_of(Net(), PARTS), state)


def test_the_most_telling_part_names_a_tensor() -> None:
    parts = [Part("", "any."), Part("first.", "in.0.", (("weight", "gain"),))]
    names = layout_of(Net(), parts).names
    assert names == {
        "first.weight": "in.0.gain",
        "first.bias": "in.0.bias",
        "last.weight": "any.last.weight",
    }


def test_what_no_part_names_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no name is known for last\.weight"):
        layout_of(Net(), PARTS[:1])


def test_two_tensors_never_share_a_name() -> None:
    with pytest.raises(ValueError, match="share one name"):
        layout_of(Net(), [Part("first.weight", "x"), Part("", "y."), Part("last.weight", "x")])


def test_under_takes_a_prefix_off() -> None:
    assert under({"a.b": torch.ones(1), "c": torch.ones(1)}, "a.").keys() == {"b"}


def test_what_is_several_in_the_original_is_joined_and_comes_apart() -> None:
    net = nn.Linear(2, 4)
    layout = Layout({"bias": "b"}, parted={"weight": ("q", "k")})
    state = {"q": torch.ones(2, 2), "k": torch.full((2, 2), 2.0), "b": torch.zeros(4)}
    load_original(net, layout, state)
    assert net.weight[:, 0].tolist() == [1, 1, 2, 2]
    back = layout.to_original(net.state_dict())
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())
    with pytest.raises(ValueError, match="lacks k"):
        layout.to_ours({name: state[name] for name in ("q", "b")})
    with pytest.raises(ValueError, match=r"q, k must be alike, got \[\(2, 2\), \(3, 2\)\]"):
        layout.to_ours({**state, "k": torch.ones(3, 2)})
    with pytest.raises(ValueError, match="NaN or infinity in q, k"):
        load_original(net, layout, {**state, "k": torch.full((2, 2), torch.nan)})
