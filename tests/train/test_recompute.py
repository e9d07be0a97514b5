import torch
from torch import Tensor, nn

from roundview.train.recompute import recomputed


class Deep(nn.Module):
    """Counts how often its blocks run."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(5, 5), nn.Dropout(0.5), nn.Tanh()) for _ in range(2)
        )
        self.calls = 0
        for block in self.blocks:
            block.register_forward_hook(self._count)

    def _count(self, *_: object) -> None:
        self.calls += 1

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + block(x)
        return x.square().sum()


def gradients(network: nn.Module) -> list[Tensor]:
    torch.manual_seed(1)
    network.zero_grad()
    network(torch.ones(3, 5)).backward()
    return [p.grad.clone() for p in network.parameters() if p.grad is not None]


def test_gradients_are_those_of_a_network_that_kept_everything() -> None:
    network = Deep()
    kept = gradients(network)
    names = list(network.state_dict())
    inner: list[int] = []
    network.blocks[0].get_submodule("0").register_forward_hook(lambda *_: inner.append(1))
    with recomputed(network) as blocks:
        assert blocks == 2
        assert list(network.state_dict()) == names
        again = gradients(network)
    assert len(inner) == 2  # Once on the way there and once on the way back.
    assert len(kept) == len(again) == 4
    for a, b in zip(kept, again, strict=True):
        torch.testing.assert_close(a, b)


def test_afterwards_the_blocks_are_as_before() -> None:
    network = Deep()
    with recomputed(network):
        assert "forward" in vars(network.blocks[0])
    assert "forward" not in vars(network.blocks[0])
