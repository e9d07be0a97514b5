"""Fit networks into the memory there is: measure before loading, plan, and keep to the plan.

Nothing is loaded to measure: networks without weights run on torch's meta device, where tensors
have sizes and no numbers, and every tensor's bytes are counted while it lives.
"""

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakIdKeyDictionary

from .diffusion.ldm_autoencoder import LdmAutoencoder
from .diffusion.sliced_attention import slice_attention

Precision = Literal["float32", "float16", "bfloat16"]
Module = TypeVar("Module", bound=nn.Module)

GB = 1e9
MARGIN = 1.25
"""What a device takes over the bytes of tensors: kernels' work space, gaps between blocks. Chosen
by us and not tried on a GPU; `benchmarks/public_memory.py` prints what it really is."""
CONTEXT_GB = 0.6
"""Of a GPU's memory that its own runtime takes; chosen by us, of the order that NVIDIA's shows."""
_ENTRANCES = ("forward", "encode", "moments", "sample", "decode", "hidden_states", "tokens")


@dataclass(frozen=True)
class MemoryPlan:
    """How networks are run.

    Attributes:
        precision: Of weights and activations.
        offload: Keep the networks in the machine's memory and bring one at a time to the device.
        sliced: Let attention see a part of its queries at a time, where the device has no kernel
            that never writes the whole table of weights.
        decoded_at_once: Frames that the decoder sees together.
        peak_bytes: Estimate of the device's memory.
    """

    precision: Precision = "float32"
    offload: bool = False
    sliced: bool = False
    decoded_at_once: int = 4
    peak_bytes: int = 0

    @property
    def dtype(self) -> torch.dtype:
        """The precision as torch has it."""
        return getattr(torch, self.precision)


@dataclass(frozen=True)
class Need:
    """What one network needs in one way of running it.

    Attributes:
        name: Of the network.
        weights: Bytes of its parameters and buffers.
        activations: Most bytes of other tensors while it runs, its inputs among them.
    """

    name: str
    weights: int
    activations: int


Measure = Callable[[MemoryPlan], Sequence[Need]]
"""measure(plan) -> what each network needs under such a plan."""


def plan_memory(
    measure: Measure, limit_gb: float | None, device: torch.device, *, decoded_at_once: int = 4
) -> MemoryPlan:
    """Choose the fastest way of running networks that fits into the memory.

    In this order: all networks on the device; fewer frames decoded together; attention in slices,
    where it matters; one network on the device at a time.

    Args:
        measure: What the networks need under a plan.
        limit_gb: Memory that may be used, 1e9 bytes; None for as much as it takes.
        device: Where the networks run.
        decoded_at_once: Frames to decode together if there is room.

    Raises:
        ValueError: If no way fits; the message says what the smallest one needs, and where.
    """
    first = MemoryPlan(precision_on(device), decoded_at_once=decoded_at_once)
    if limit_gb is None:
        return first
    least: MemoryPlan | None = None
    for plan in _ways(first, device):
        tried = replace(plan, peak_bytes=_peak(plan, measure(plan), device))
        if tried.peak_bytes <= limit_gb * GB:
            return tried
        if least is None or tried.peak_bytes < least.peak_bytes:
            least = tried
    raise ValueError(_refusal(least or first, measure, limit_gb))


def precision_on(device: torch.device) -> Precision:
    """Give the precision in which networks run on a device: as the originals are run on a GPU.

    Processors are slow with half precision.
    """
    return "float32" if device.type == "cpu" else "float16"


def fitted(
    networks: Mapping[str, Module], plan: MemoryPlan, device: torch.device
) -> dict[str, Module]:
    """Bring networks to a device as a plan says; they are changed and given back.

    For those of several checkpoints that share the device, see `Room`.
    """
    return Room(plan, device).take(networks)


class Room:
    """A device's memory, planned for all the networks that are brought into it.

    Attributes:
        plan: How they are run.
        device: Where.
    """

    def __init__(self, plan: MemoryPlan, device: torch.device) -> None:
        self.plan, self.device = plan, device
        self._turns = _Turns(device) if plan.offload else None

    def take(self, networks: Mapping[str, Module]) -> dict[str, Module]:
        """Bring networks in; they are changed and given back.

        With offload their parameters stay where they are, and each call of one of them (`forward`,
        `encode`, `decode` ...) copies its own to the device, after the copies of the one before,
        of whichever checkpoint, are dropped. What it is given is brought along, and what it gives
        is brought to where the first tensor it was given was, so that callers need not know.
        """
        for network in {id(each): each for each in networks.values()}.values():
            in_precision(network, self.plan.dtype)
            if self.plan.sliced:
                slice_attention(network)
            if self._turns is None:
                network.to(self.device)
            else:
                self._turns.take(network)
        return dict(networks)


def in_precision(network: nn.Module, dtype: torch.dtype) -> None:
    """Bring a network to a precision, but for the encoders that need float32.

    Those are `LdmAutoencoder`s that were made with `upcast`.
    """
    network.to(dtype=dtype)
    for part in network.modules():
        if isinstance(part, LdmAutoencoder):
            part.upcast_encoder()


def tensor_peak(
    run: Callable[[], object],
    *,
    resident: Sequence[nn.Module] = (),
    fused: bool = True,
    gradient: bool = False,
) -> int:
    """Count the most bytes of tensors that live at one time while something runs.

    Args:
        run: On any device; on the meta device nothing is computed.
        resident: Networks whose weights do not count.
        fused: Take attention for one kernel that never writes its table of weights, as a GPU's and
            a processor's are; the meta device would write it.
        gradient: Keep what the way back needs.
    """
    meter = _Meter([t for network in resident for t in network.state_dict(keep_vars=True).values()])
    with torch.set_grad_enabled(gradient), _Attention(fused=fused), meter:
        run()
    return meter.most


def weight_bytes(network: nn.Module) -> int:
    """Give the bytes of a network's parameters and buffers in the precision that they have."""
    return sum(tensor.nbytes for tensor in network.state_dict().values())


def _ways(first: MemoryPlan, device: torch.device) -> list[MemoryPlan]:
    chunks = [first.decoded_at_once]
    while chunks[-1] > 1:
        chunks.append(chunks[-1] // 2)
    # A GPU of NVIDIA's and a processor have attention in one kernel; slices would gain nothing.
    slicing = (False,) if device.type in ("cuda", "cpu") else (False, True)
    # Weights stay in the machine's memory anyway where that is the device.
    moving = (False,) if device.type == "cpu" else (False, True)
    return [
        replace(first, offload=offload, sliced=sliced, decoded_at_once=chunk)
        for offload in moving
        for sliced in slicing
        for chunk in chunks
    ]


def _peak(plan: MemoryPlan, needs: Sequence[Need], device: torch.device) -> int:
    if plan.offload:
        tensors = max(need.weights + need.activations for need in needs)
    else:
        tensors = sum(need.weights for need in needs) + max(need.activations for need in needs)
    context = CONTEXT_GB * GB if device.type == "cuda" else 0.0
    return round(tensors * MARGIN + context)


def _refusal(least: MemoryPlan, measure: Measure, limit_gb: float) -> str:
    worst = max(measure(least), key=lambda need: need.weights + need.activations)
    one_by_one = ", one network at a time" if least.offload else ""
    return (
        f"--memory-gb {limit_gb:g} is not enough: at least {least.peak_bytes / GB:.1f} GB are "
        f"needed in {least.precision}{one_by_one}, decoding {least.decoded_at_once} at once, most "
        f"of them by {worst.name} ({worst.weights / GB:.1f} GB of weights, "
        f"{worst.activations / GB:.1f} GB while it runs); use smaller weights or another device"
    )


class _Turns:
    """Lets one network at a time be on the device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._present: nn.Module | None = None
        self._home: list[tuple[nn.Module, str, Tensor]] = []
        self._busy = False

    def take(self, network: nn.Module) -> None:
        """Let every call of a network begin by its coming."""
        for name in _ENTRANCES:
            inner = getattr(network, name, None)
            if callable(inner):
                setattr(network, name, self._visiting(network, inner))

    def _visiting(self, network: nn.Module, inner: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  whatever the network takes
            if self._busy:
                return inner(*args, **kwargs)
            self._come(network)
            given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
            self._busy = True
            try:
                out = inner(*_moved(args, self.device), **_moved(kwargs, self.device))
            finally:
                self._busy = False
            return _moved(out, given[0].device) if given else out

        return call

    def _come(self, network: nn.Module) -> None:
        if self._present is network:
            return
        # Weights do not change, so the copies are dropped and the tensors at home put back.
        for module, name, tensor in self._home:
            setattr(module, name, tensor)
        self._home.clear()
        for module in network.modules():
            for name, tensor in [
                *module.named_parameters(recurse=False),
                *module.named_buffers(recurse=False),
            ]:
                self._home.append((module, name, tensor))
                there = tensor.detach().to(self.device, copy=True)
                is_parameter = isinstance(tensor, nn.Parameter)
                setattr(
                    module,
                    name,
                    nn.Parameter(there, requires_grad=False) if is_parameter else there,
                )
        self._present = network


def _moved(held: Any, device: torch.device) -> Any:  # noqa: ANN401  any tree of tensors
    return tree_map(lambda each: each.to(device) if isinstance(each, Tensor) else each, held)


class _Meter(TorchDispatchMode):
    """Counts the bytes of storages from when they appear to when they go."""

    def __init__(self, known: Sequence[Tensor]) -> None:
        super().__init__()
        self.live = self.most = 0
        self._seen = WeakIdKeyDictionary()
        for tensor in known:
            self._seen[tensor.untyped_storage()] = True

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,  # noqa: ANN401  torch's
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401  whatever torch's function gives
        out = func(*args, **(kwargs or {}))
        for each in tree_leaves(out):
            if isinstance(each, Tensor):
                self._count(each)
        return out

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self._seen:
            return
        self._seen[storage] = True
        size = storage.nbytes()
        self.live += size
        self.most = max(self.most, self.live)
        weakref.finalize(storage, self._gone, size)

    def _gone(self, size: int) -> None:
        self.live -= size


class _Attention(TorchFunctionMode):
    """Takes attention for one kernel: only what it gives takes memory."""

    def __init__(self, *, fused: bool) -> None:
        super().__init__()
        self.fused = fused

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,  # noqa: ANN401  torch's
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401  whatever torch's function gives
        given = kwargs or {}
        if self.fused and func is torch.nn.functional.scaled_dot_product_attention:
            query = args[0] if args else given["query"]
            value = args[2] if len(args) > 2 else given["value"]
            if query.device.type == "meta":
                return query.new_empty((*query.shape[:-1], value.shape[-1]))
        return func(*args, **given)
