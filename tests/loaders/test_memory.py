import re
from dataclasses import replace

import pytest
import torch
from checkpoints_tiny import (
    DEPTH,
    hi3d_state,
    isotropic3d_state,
    sd2_depth_state,
    svd_state,
    zero123_state,
)

from roundview.diffusion.checkpoints.families import empty_networks, read_networks
from roundview.diffusion.ldm_unet import LdmUNet
from roundview.loaders.memory import (
    AS_PUBLISHED,
    Asked,
    Drawn,
    called_apart,
    needs_of,
    remembered_bytes,
    room_for,
)
from roundview.memory import GB, MARGIN, MemoryPlan, tensor_peak
from roundview.weights import Card

CPU, GPU = torch.device("cpu"), torch.device("cuda")
DRAWN = Drawn(4, 64)
ENCODER = re.compile(
    r"(first_stage_model|conditioner\.embedders\.3\.encoder)\.(encoder|quant_conv)\."
)


@torch.no_grad()
def test_the_estimate_is_what_really_runs_within_a_tenth() -> None:
    networks, sizes = read_networks("svd", svd_state())
    told = {
        need.name: need.activations
        for need in needs_of(empty_networks("svd", sizes), DRAWN)(MemoryPlan())
    }
    assert list(told) == ["unet", "first_stage.clips", "image_tower", "condition_encoder"]
    parts = called_apart(networks)
    unet, clips, encoder = parts["unet"], parts["first_stage.clips"], parts["condition_encoder"]
    x, tokens, vector = torch.randn(1, 4, 8, 8, 8), torch.randn(1, 1, 24), torch.randn(1, 4, 768)
    latents, photo = torch.randn(4, 4, 8, 8), torch.randn(1, 3, 64, 64)
    held = [*networks.values()]
    really = {
        "unet": tensor_peak(lambda: unet(x, torch.tensor([0.5]), tokens, vector), resident=held),
        "first_stage.clips": tensor_peak(lambda: clips.decode(latents[None]), resident=held),  # pyright: ignore[reportCallIssue]  a decoder
        "condition_encoder": tensor_peak(lambda: encoder.encode(photo), resident=held),  # pyright: ignore[reportCallIssue]  an encoder
    }
    for name, real in really.items():
        assert real / 1.1 <= told[name] <= real * 1.35, name


@pytest.mark.parametrize("kind", ["zero123", "hi3d"])
def test_weights_are_counted_to_the_byte(kind: str) -> None:
    state = zero123_state() if kind == "zero123" else hi3d_state()
    _, sizes = read_networks(kind, state)
    measure = needs_of(empty_networks(kind, sizes), AS_PUBLISHED.get(kind, DRAWN))
    sizes_of = {name: tensor.numel() for name, tensor in state.items()}
    # What encodes pictures for a video model stays in float32.
    careful = sum(n for name, n in sizes_of.items() if ENCODER.match(name)) if kind == "hi3d" else 0
    for plan, size in ((MemoryPlan(), 4), (MemoryPlan("float16"), 2)):
        weights = sum(need.weights for need in measure(plan))
        assert weights == size * sum(sizes_of.values()) + (4 - size) * careful


def test_more_frames_and_pixels_need_more() -> None:
    _, sizes = read_networks("hi3d", hi3d_state())

    def unet(drawn: Drawn) -> int:
        only = empty_networks("hi3d", {"unet": sizes["unet"]})
        return needs_of(only, drawn)(MemoryPlan())[0].activations

    one = unet(DRAWN)
    assert unet(Drawn(8, 64)) > 1.8 * one
    assert unet(Drawn(4, 128)) > 3.5 * one


def svd_card(name: str) -> Card:
    _, sizes = read_networks("svd", svd_state())
    return Card(name, "svd", "none.safetensors", "", "", "", settings=sizes)


def test_a_card_is_enough_to_plan_and_to_refuse() -> None:
    asked = [Asked(svd_card("svd-small"), DRAWN, 1)]
    roomy = room_for(asked, GPU, 10.0).plan
    assert (roomy.precision, roomy.offload, roomy.decoded_at_once) == ("float16", False, 1)
    with pytest.raises(ValueError, match=r"--memory-gb 0\.5 is not enough: at least 0\.6 GB"):
        room_for(asked, GPU, 0.5)
    assert room_for(asked, GPU, None).plan.peak_bytes == 0


def test_two_checkpoints_share_what_there_is() -> None:
    _, sizes = read_networks("zero123", zero123_state())
    drawn = Drawn(2, 16, passes=2)
    asked = [
        Asked(Card(name, "zero123", "none.safetensors", "", "", "", settings=sizes), drawn, 2)
        for name in "ab"
    ]
    one, two = (room_for(asked[:count], GPU, 10.0).plan for count in (1, 2))
    # The weights of both, the activations of whichever is asked.
    needs = needs_of(empty_networks("zero123", sizes), drawn)(one)
    weights = sum(need.weights for need in needs)
    assert two.peak_bytes - one.peak_bytes == pytest.approx(MARGIN * weights, abs=2)
    # With less they take turns, one network at a time.
    tight = room_for(asked, GPU, (one.peak_bytes - 1) / GB).plan
    assert tight.peak_bytes < one.peak_bytes
    with pytest.raises(ValueError, match=r"one network at a time, .* by a: "):
        room_for(asked, GPU, 0.5)


def test_a_distillation_needs_the_encoder_s_way_back() -> None:
    _, sizes = read_networks("isotropic3d", isotropic3d_state())
    drawn = Drawn(4, 64, passes=2)

    def most(drawn: Drawn) -> int:
        return max(
            n.activations
            for n in needs_of(empty_networks("isotropic3d", sizes), drawn)(MemoryPlan())
        )

    # Pictures of 64 x 64 in 32 channels and what is made of them, several times over.
    assert most(replace(drawn, judged=8)) > most(drawn) + 8 * 8 * 32 * 64 * 64 * 4


def test_what_a_photograph_is_remembered_by_is_counted() -> None:
    with torch.device("meta"):
        network = LdmUNet(DEPTH)
    # One level of 64 channels with a block down, one in the middle, two up: 4 layers.
    assert remembered_bytes(network, 8) == 4 * 64 * 8 * 8 * 4
    kept = Drawn(1, 64, remembered=10)
    _, sizes = read_networks("sd2-depth", sd2_depth_state())

    def unet(drawn: Drawn) -> int:
        only = empty_networks("sd2-depth", {"unet": sizes["unet"]})
        return needs_of(only, drawn)(MemoryPlan())[0].activations

    assert unet(kept) - unet(replace(kept, remembered=0)) == 10 * remembered_bytes(network, 8)
