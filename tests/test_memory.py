from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from roundview.diffusion.checkpoints.autoencoder import AutoencoderShape
from roundview.diffusion.ldm_autoencoder import LdmAutoencoder
from roundview.memory import (
    GB,
    MARGIN,
    MemoryPlan,
    Need,
    Room,
    fitted,
    in_precision,
    plan_memory,
    precision_on,
    tensor_peak,
    weight_bytes,
)

CPU, GPU, METAL = torch.device("cpu"), torch.device("cuda"), torch.device("mps")


def measured(plan: MemoryPlan) -> Sequence[Need]:
    """A network of 4 GB that needs 2 GB, and a decoder of 1 GB that needs 1 GB a frame."""
    sliced = 1 if plan.sliced else 2
    return (
        Need("unet", round(4 * GB), round(sliced * GB)),
        Need("decoder", round(1 * GB), round(plan.decoded_at_once * GB)),
    )


def test_what_fits_is_run_in_the_fastest_way() -> None:
    # 5 GB of weights and the decoder's 4 while it runs, with the margin, and the GPU's own.
    assert plan_memory(measured, 12.0, GPU) == MemoryPlan(
        "float16", decoded_at_once=4, peak_bytes=round(9 * GB * MARGIN + 0.6 * GB)
    )
    assert plan_memory(measured, None, GPU) == MemoryPlan("float16")


def test_fewer_frames_are_decoded_before_networks_are_moved() -> None:
    plan = plan_memory(measured, 10.0, GPU)
    assert (plan.decoded_at_once, plan.offload) == (2, False)
    plan = plan_memory(measured, 8.5, GPU)
    assert (plan.decoded_at_once, plan.offload) == (4, True)
    assert plan.peak_bytes == round(6 * GB * MARGIN + 0.6 * GB)


def test_attention_is_sliced_only_where_it_has_no_kernel_of_its_own() -> None:
    # With slices the larger of the two is the decoder, with one frame.
    plan = plan_memory(measured, 7.6, METAL)
    assert (plan.sliced, plan.decoded_at_once, plan.offload) == (True, 1, False)
    assert not plan_memory(measured, 8.2, GPU).sliced


def test_what_cannot_fit_is_refused_with_the_reason() -> None:
    with pytest.raises(
        ValueError,
        match=r"--memory-gb 5 is not enough: at least 8\.1 GB are needed in float16, one network "
        r"at a time, .*most of them by unet \(4\.0 GB of weights, 2\.0 GB while it runs\)",
    ):
        plan_memory(measured, 5.0, GPU)
    # Where weights are at home nothing can be moved away.
    with pytest.raises(
        ValueError, match=r"at least 8\.8 GB are needed in float32, decoding 2 at once"
    ):
        plan_memory(measured, 5.0, CPU)


def test_precision_is_half_off_the_cpu() -> None:
    assert [precision_on(d) for d in (CPU, METAL, GPU)] == ["float32", "float16", "float16"]


class Part(nn.Module):
    """A layer, and a record of whose parameters were at home whenever it ran."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layer = nn.Linear(4, 4)
        self.register_buffer("shift", torch.tensor(float(seed)))
        self.home = dict(self.layer.named_parameters())
        self.others: list[Part] = []
        self.seen: list[tuple[bool, bool]] = []

    @property
    def at_home(self) -> bool:
        return all(held is self.home[n] for n, held in self.layer.named_parameters())

    def encode(self, x: Tensor) -> Tensor:
        return self.forward(x)

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append((self.at_home, all(other.at_home for other in self.others)))
        return self.layer(x) + self.get_buffer("shift")


def test_one_network_at_a_time_is_on_the_device_and_nothing_changes() -> None:
    parts = {str(k): Part(k) for k in range(3)}
    for part in parts.values():
        part.others = [other for other in parts.values() if other is not part]
    x = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))

    def run() -> Tensor:
        y = parts["0"].encode(x)
        return parts["1"](parts["2"].encode(parts["1"](y)))

    with torch.no_grad():
        before = run()
        for part in parts.values():
            part.seen.clear()
        fitted(parts, MemoryPlan(offload=True), CPU)
        assert torch.equal(run(), before)
        assert torch.equal(run(), before)
    # Away from home itself, and all others at home, at each of its calls.
    assert {each for part in parts.values() for each in part.seen} == {(False, True)}


def test_copies_of_those_who_left_are_gone() -> None:
    parts = {str(k): Part(k) for k in range(3)}
    for part in parts.values():
        part.seen.clear()
    fitted(parts, MemoryPlan(offload=True), CPU)
    x, size = torch.randn(1, 4), (16 + 4 + 1) * 4
    residents = list(parts.values())

    def run() -> None:
        for part in parts.values():
            part(x)

    peak = tensor_peak(run, resident=residents)
    # Copies of one network, its input and output; never those of two networks.
    assert size <= peak < 2 * size


def test_networks_of_two_checkpoints_in_one_room_take_turns() -> None:
    room = Room(MemoryPlan(offload=True), CPU)
    one, two = Part(1), Part(2)
    one.others, two.others = [two], [one]
    room.take({"net": one})
    room.take({"net": two})
    x = torch.randn(1, 4)
    for part in (one, two, one):
        part(x)
    assert {each for part in (one, two) for each in part.seen} == {(False, True)}


def test_what_the_way_back_needs_counts_if_asked() -> None:
    layers = nn.Sequential(*(nn.Sequential(nn.Linear(64, 64), nn.Tanh()) for _ in range(8)))
    layers.requires_grad_(False)
    x = torch.zeros(1, 64, requires_grad=True)
    without = tensor_peak(lambda: layers(x), resident=[layers])
    # Each tanh's result lives on; without a way back two at a time.
    assert tensor_peak(lambda: layers(x), resident=[layers], gradient=True) >= 8 * 256
    assert without <= 3 * 256


def test_an_encoder_that_needs_float32_keeps_it() -> None:
    shape = AutoencoderShape(width=32, widths=(1,), res_blocks=1)
    holder = nn.Sequential(LdmAutoencoder(shape, upcast=True), LdmAutoencoder(shape))
    in_precision(holder, torch.float16)
    careful, plain = holder
    assert isinstance(careful, LdmAutoencoder)
    assert isinstance(plain, LdmAutoencoder)
    assert {p.dtype for p in plain.parameters()} == {torch.float16}
    assert {p.dtype for p in careful.net.encoder.parameters()} == {torch.float32}
    assert {p.dtype for p in careful.net.decoder.parameters()} == {torch.float16}


def test_what_is_given_goes_along_and_comes_back() -> None:
    network = Part(1)
    fitted({"a": network}, MemoryPlan(offload=True), torch.device("meta"))
    placed: list[str] = []
    network.layer.register_forward_pre_hook(
        lambda layer, given: placed.append(
            next(layer.parameters()).device.type + given[0].device.type
        )
    )
    out = network(torch.empty(2, 4, device="meta"))
    assert placed == ["metameta"]
    assert out.device.type == "meta"
    assert next(iter(network.home.values())).device.type == "cpu"


def test_without_offload_networks_go_there_and_stay() -> None:
    network = Part(1)
    fitted({"a": network}, MemoryPlan("float16"), torch.device("meta"))
    assert {(p.device.type, p.dtype) for p in network.parameters()} == {("meta", torch.float16)}


def test_the_peak_of_a_sum_is_its_inputs_and_its_result() -> None:
    def run() -> Tensor:
        a, b = torch.zeros(1000), torch.zeros(1000)
        c = a + b
        del a, b
        return c * 2  # Here only c and the result live.

    assert tensor_peak(run) == 3 * 4000


def test_views_and_weights_take_nothing() -> None:
    layer = nn.Linear(64, 64)
    x = torch.zeros(1, 64)
    assert tensor_peak(lambda: layer(x).reshape(64).flip(0)[:4], resident=[layer]) == 2 * 256
    assert weight_bytes(layer) == 4 * (64 * 64 + 64)
    assert weight_bytes(layer.half()) == 2 * (64 * 64 + 64)


def test_fused_attention_never_writes_its_table() -> None:
    q = torch.empty(1, 1, 512, 8, device="meta")

    def run() -> Tensor:
        return torch.nn.functional.scaled_dot_product_attention(q, q, q)

    assert tensor_peak(run) == 512 * 8 * 4
    assert tensor_peak(run, fused=False) >= 512 * 512 * 4
