"""Training on many processes: who takes part, how gradients are shared, weights kept in parts.

`torchrun` and `accelerate launch` start the same program several times and tell each one its place
in the environment. The loop (`train/loop.py`) joins them here; a program started by hand is a world
of one, and nothing of torch's process groups is touched.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn

BUCKET_NUMBERS = 1 << 24
"""Numbers that are averaged in one go: 64 MB of float32. Chosen by us; a network of 40 million
parameters takes three goes, and the copy into the bucket stays small beside the weights."""


@dataclass(frozen=True)
class World:
    """The processes that train one network together.

    Attributes:
        rank: This process, counted from 0; the first one writes the files.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes logs and checkpoints."""
        return self.rank == 0


def join() -> World:
    """Join the processes that a launcher started, once; a world of one without a launcher."""
    if not distributed.is_available():
        return World()
    if not distributed.is_initialized():
        if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
            return World()
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return World(distributed.get_rank(), distributed.get_world_size())


def leave() -> None:
    """Leave the other processes in an orderly way, at the end of a program that `join`ed."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def same_start(network: nn.Module, world: World) -> None:
    """Give every process the first one's weights, in place."""
    if world.size == 1:
        return
    for value in (*network.parameters(), *network.buffers()):
        if not _in_parts(value):
            distributed.broadcast(value.detach(), 0)


@torch.no_grad()
def average_gradients(network: nn.Module, world: World) -> None:
    """Replace every gradient by its mean over the processes, in place.

    By hand, not by torch's wrapper class: a loss calls whichever methods of its network it likes,
    and the wrapper knows only `forward`. Parameters without a gradient must be the same everywhere.
    """
    if world.size == 1:
        return
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    for part in _buckets(gradients):
        flat = torch.cat([gradient.reshape(-1) for gradient in part])
        distributed.all_reduce(flat)
        flat /= world.size
        for gradient, mean in zip(part, flat.split([g.numel() for g in part]), strict=True):
            gradient.copy_(mean.view_as(gradient))


def mean_over(value: Tensor, world: World) -> float:
    """Give the mean of a number over the processes."""
    if world.size > 1:
        value = value.clone()
        distributed.all_reduce(value)
    return float(value) / world.size


def agreed(value: bool, world: World, place: torch.device) -> bool:
    """Say whether the first process holds this to be true, so that all stop at the same step."""
    if world.size == 1:
        return value
    flag = torch.tensor([int(value)], device=place)
    distributed.broadcast(flag, 0)
    return bool(flag.item())


def gathered(mine: list[Tensor], world: World) -> list[Tensor]:
    """Give the lists of all processes one after another, in the order of their ranks."""
    if world.size == 1:
        return mine
    theirs: list[Any] = [None] * world.size
    distributed.all_gather_object(theirs, mine)
    return [tensor for part in theirs for tensor in part]


def shard(network: nn.Module) -> nn.Module:
    """Keep only this process's part of every weight, gradient and optimiser number, in place.

    Fully sharded data parallel: Zhao et al., "PyTorch FSDP: Experiences on Scaling Fully Sharded
    Data Parallel", 2023, in torch's second form (`fully_shard`). The units that are gathered and
    let go together are the `repeated_blocks` and what is left over. The network keeps its class;
    its loss must call the network itself, not other methods of it, since only that gathers the
    weights.

    A network that is kept in parts already is left as it is.

    Raises:
        ValueError: If no process group has been joined.
    """
    if any(_in_parts(p) for p in network.parameters()):
        return network
    if not (distributed.is_available() and distributed.is_initialized()):
        raise ValueError("shard needs a process group: start with `torchrun --nproc-per-node N`")
    from torch.distributed.device_mesh import init_device_mesh  # noqa: PLC0415  slow import
    from torch.distributed.fsdp import fully_shard  # noqa: PLC0415

    kind = next(network.parameters()).device.type
    mesh = init_device_mesh(kind, (distributed.get_world_size(),))
    for block in repeated_blocks(network):
        fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh)
    return network


def repeated_blocks(network: nn.Module) -> list[nn.Module]:
    """List the blocks a deep network repeats: the members of its outermost module lists.

    They are what is sharded, and recomputed, one at a time.
    """
    return list(_blocks_in(network))


def whole(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give whole tensors on the CPU for those kept in parts; every process must call this."""
    return {name: _whole(value) for name, value in state.items()}


def in_parts_like(value: Tensor, example: Tensor) -> Tensor:
    """Cut a whole tensor as the example is cut; leave it if the example is whole."""
    if not _in_parts(example):
        return value
    from torch.distributed.tensor import distribute_tensor  # noqa: PLC0415  slow import

    kept: Any = example
    return distribute_tensor(value.to(kept.device), kept.device_mesh, kept.placements)


def whole_optimiser(optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Give an optimiser's state with whole tensors; every process must call this."""
    state = optimiser.state_dict()
    numbers = {at: whole(named) for at, named in state["state"].items()}
    return {**state, "state": numbers}


def load_optimiser(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Take up a state of whole tensors, cut as the optimiser's parameters are."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    numbers = {
        at: {
            key: in_parts_like(value, parameters[at]) if value.ndim else value
            for key, value in named.items()
        }
        for at, named in state["state"].items()
    }
    optimiser.load_state_dict({**state, "state": numbers})


def _whole(value: Tensor) -> Tensor:
    gather = getattr(value, "full_tensor", None)
    return value if gather is None else gather().cpu()


def _in_parts(value: Tensor) -> bool:
    return hasattr(value, "full_tensor")


def _blocks_in(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from _blocks_in(child)


def _buckets(gradients: list[Tensor]) -> Iterator[list[Tensor]]:
    part: list[Tensor] = []
    for gradient in gradients:
        full = sum(g.numel() for g in part) + gradient.numel() > BUCKET_NUMBERS
        if part and (full or part[0].dtype != gradient.dtype):
            yield part
            part = []
        part.append(gradient)
    if part:
        yield part
