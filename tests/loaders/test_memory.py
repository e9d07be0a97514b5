import pytest
import torch
from checkpoints_tiny import hi3d_state, svd_state, zero123_state

from roundview.diffusion.checkpoints.families import empty_networks, read_networks
from roundview.loaders.memory import AS_PUBLISHED, Drawn, called_apart, needs_of, plan_for
from roundview.memory import MemoryPlan, tensor_peak
from roundview.weights import Card

CPU, GPU = torch.device("cpu"), torch.device("cuda")
DRAWN = Drawn(4, 64)


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
    for plan, size in ((MemoryPlan(), 4), (MemoryPlan("float16"), 2)):
        weights = sum(need.weights for need in measure(plan))
        assert weights == size * sum(tensor.numel() for tensor in state.values())


def test_more_frames_and_pixels_need_more() -> None:
    _, sizes = read_networks("hi3d", hi3d_state())

    def unet(drawn: Drawn) -> int:
        only = empty_networks("hi3d", {"unet": sizes["unet"]})
        return needs_of(only, drawn)(MemoryPlan())[0].activations

    one = unet(DRAWN)
    assert unet(Drawn(8, 64)) > 1.8 * one
    assert unet(Drawn(4, 128)) > 3.5 * one


def test_a_card_is_enough_to_plan_and_to_refuse() -> None:
    _, sizes = read_networks("svd", svd_state())
    card = Card("svd-small", "svd", "none.safetensors", "", "", "", settings=sizes)
    roomy = plan_for(card, GPU, 10.0, DRAWN, at_once=1)
    assert (roomy.precision, roomy.offload, roomy.decoded_at_once) == ("float16", False, 1)
    with pytest.raises(ValueError, match=r"--memory-gb 0\.5 is not enough: at least 0\.6 GB"):
        plan_for(card, GPU, 0.5, DRAWN, at_once=1)
    assert plan_for(card, GPU, None, DRAWN).peak_bytes == 0
