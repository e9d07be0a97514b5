"""Renaming tensors between an original checkpoint and our networks: strict, and both ways."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Part:
    """A module that has one name in our network and another in the original.

    Attributes:
        ours: Beginning of our names, with its dot.
        original: What stands there in the original.
        inside: How names go on, ours to original, each with its dot; what is not listed keeps its
            name.
        flat: Beginnings of our names, after `ours`, of linear layers that are 1x1 convolutions in
            the original.
    """

    ours: str
    original: str
    inside: tuple[tuple[str, str], ...] = ()
    flat: tuple[str, ...] = ()

    def rename(self, name: str) -> str:
        """Give the original's name for one of ours that begins as this part does."""
        rest = name.removeprefix(self.ours)
        for here, there in self.inside:
            if rest.startswith(here):
                return self.original + there + rest.removeprefix(here)
        return self.original + rest

    def is_flat(self, name: str) -> bool:
        """Tell whether our tensor lacks the two last axes of the original."""
        rest = name.removeprefix(self.ours)
        return rest.endswith("weight") and rest.startswith(self.flat) if self.flat else False


@dataclass(frozen=True)
class Layout:
    """The original name of each of our tensors.

    Attributes:
        names: Ours to original.
        flat: Ours of those that are 1x1 convolutions in the original.
        joined: Original names of tensors that are several of ours, one after another.
        parted: Our names of tensors that are several of the original's, one after another.
    """

    names: Mapping[str, str]
    flat: frozenset[str] = frozenset()
    joined: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    parted: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def called(self) -> dict[str, str]:
        """The original name of each of our tensors, of parts and wholes as well."""
        parts = {ours: whole for whole, each in self.joined.items() for ours in each}
        return {**self.names, **parts, **{o: ", ".join(each) for o, each in self.parted.items()}}

    def to_ours(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename an original's tensors.

        Raises:
            ValueError: If one is missing or there is one too many; the message names them.
        """
        theirs = (name for each in self.parted.values() for name in each)
        must_agree(state, [*self.names.values(), *self.joined, *theirs])
        out = {
            ours: state[original][..., 0, 0]
            if self._squeezes(ours, state[original])
            else state[original]
            for ours, original in self.names.items()
        }
        for whole, parts in self.joined.items():
            if len(state[whole]) % len(parts):
                raise ValueError(f"{whole} is {_shape(state[whole])}: no {len(parts)} equal parts")
            out |= zip(parts, state[whole].chunk(len(parts)), strict=True)
        for whole, parts in self.parted.items():
            shapes = {tuple(state[part].shape) for part in parts}
            if len(shapes) > 1 or () in shapes:
                raise ValueError(f"{', '.join(parts)} must be alike, got {sorted(shapes)}")
            out[whole] = torch.cat([state[part] for part in parts])
        return out

    def to_original(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename our tensors as the original has them.

        Raises:
            ValueError: If one is missing or there is one too many; the message names them.
        """
        must_agree(state, self.called)
        out = {
            original: state[ours][..., None, None] if ours in self.flat else state[ours]
            for ours, original in self.names.items()
        }
        for whole, parts in self.joined.items():
            out[whole] = torch.cat([state[part] for part in parts])
        for whole, parts in self.parted.items():
            pieces = (piece.contiguous() for piece in state[whole].chunk(len(parts)))
            out |= zip(parts, pieces, strict=True)
        return out

    def _squeezes(self, ours: str, tensor: Tensor) -> bool:
        return ours in self.flat and tensor.ndim == 4


def layout_of(network: nn.Module, parts: Sequence[Part]) -> Layout:
    """Name every tensor of a network by the most telling part.

    Raises:
        ValueError: If a tensor belongs to no part, or two would get one name.
    """
    names: dict[str, str] = {}
    flat: set[str] = set()
    by_length = sorted(parts, key=lambda part: len(part.ours), reverse=True)
    for name in network.state_dict():
        part = next((part for part in by_length if name.startswith(part.ours)), None)
        if part is None:
            raise ValueError(f"no name is known for {name} in the original layout")
        names[name] = part.rename(name)
        if part.is_flat(name):
            flat.add(name)
    if len(set(names.values())) != len(names):
        raise ValueError("two tensors would share one name in the original layout")
    return Layout(names, frozenset(flat))


def load_original(network: nn.Module, layout: Layout, state: Mapping[str, Tensor]) -> None:
    """Fill a network with an original's tensors, in the network's own precision.

    Raises:
        ValueError: If names or shapes differ, or a number is not finite; the message names them.
    """
    fill(network, layout.to_ours(state), layout.called)


def fill(network: nn.Module, ours: Mapping[str, Tensor], names: Mapping[str, str]) -> None:
    """Fill a network with tensors of its own names, in the network's own precision.

    Args:
        network: On the meta device it takes the tensors as they are.
        ours: Every one of its tensors.
        names: What messages call each.

    Raises:
        ValueError: If a shape differs, or a number is not finite; the message names them.
    """
    wanted = network.state_dict()
    wrong = [
        f"{names[name]} is {_shape(tensor)}, not {_shape(wanted[name])}"
        for name, tensor in ours.items()
        if tensor.shape != wanted[name].shape
    ]
    if wrong:
        raise ValueError(f"the checkpoint is of another size: {_some(wrong)}")
    broken = [
        names[name]
        for name, tensor in ours.items()
        if tensor.device.type != "meta" and not bool(torch.isfinite(tensor).all())
    ]
    if broken:
        raise ValueError(f"the checkpoint holds NaN or infinity in {_some(broken)}")
    network.load_state_dict(dict(ours), strict=True, assign=_is_meta(network))


def under(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Take the tensors whose names begin with a prefix, which is taken off."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in state.items()
        if name.startswith(prefix)
    }


def _is_meta(network: nn.Module) -> bool:
    return any(tensor.device.type == "meta" for tensor in network.state_dict().values())


def must_agree(
    state: Mapping[str, Tensor], wanted: Iterable[str], what: str = "the checkpoint"
) -> None:
    """Refuse tensors that are not exactly those of these names.

    Raises:
        ValueError: If one is missing or there is one too many; the message names them.
    """
    wanted = set(wanted)
    missing = sorted(wanted - state.keys())
    extra = sorted(state.keys() - wanted)
    problems = [f"lacks {_some(missing)}"] if missing else []
    problems += [f"has unknown {_some(extra)}"] if extra else []
    if problems:
        raise ValueError(f"{what} {' and '.join(problems)}")


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _shape(tensor: Tensor) -> str:
    return "x".join(str(side) for side in tensor.shape) or "a number"
