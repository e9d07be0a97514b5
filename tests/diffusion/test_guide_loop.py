"""A distillation finds what its guide wants, and can be stopped anywhere."""

import io
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Generator, Tensor

from roundview.diffusion.guide_loop import (
    DistillSettings,
    Group,
    Rendered,
    State,
    distill,
)

SETTINGS = DistillSettings(steps=40, keep_every=10)


def canvas() -> tuple[Tensor, Tensor]:
    return torch.zeros(3, requires_grad=True), torch.zeros(1, requires_grad=True)


def run(
    shape: Tensor, colour: Tensor, seed: int = 0, steps: int = 40, start: State | None = None
) -> tuple[State, list[State]]:
    kept: list[State] = []

    def render(_step: int, rng: Generator) -> Rendered:
        shift = 0.01 * torch.rand(3, generator=rng)
        return Rendered(shape + colour + shift, penalty=colour.square().sum())

    def guide(rendered: Rendered, _step: int, _rng: Generator) -> Tensor:
        return rendered.picture.detach() - torch.tensor([1.0, 2.0, 3.0])

    groups = [
        Group("shape", [shape], lambda _: 0.2),
        Group("colour", [colour], lambda step: 0.1 if step < 20 else 0.01),
    ]
    rng = Generator().manual_seed(seed)
    settings = replace(SETTINGS, steps=steps)
    state = distill(groups, render, guide, rng, settings, start=start, keep=kept.append)
    return state, kept


def test_it_goes_where_the_guide_and_the_penalty_point() -> None:
    shape, colour = canvas()
    run(shape, colour, steps=300)
    torch.testing.assert_close(
        (shape + colour).detach(), torch.tensor([1.0, 2.0, 3.0]), atol=0.05, rtol=0
    )
    assert abs(float(colour.detach())) < 0.1


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_run_goes_on_as_if_it_was_never_stopped(at: int) -> None:
    shape, colour = canvas()
    whole, kept = run(shape, colour)
    file = io.BytesIO()
    torch.save(kept[at], file)
    file.seek(0)
    again = canvas()
    state, _ = run(*again, seed=99, start=torch.load(file, weights_only=True))
    assert torch.equal(again[0], shape)
    assert torch.equal(again[1], colour)
    assert state["step"] == whole["step"] == 40
    assert torch.equal(state["rng"], whole["rng"])


def test_the_state_stays_what_it_was() -> None:
    shape, colour = canvas()
    _, kept = run(shape, colour)
    before = kept[0]["parameters"]["shape"][0].clone()
    momentum = kept[0]["optimiser"]["state"][0]["exp_avg"].clone()
    run(*canvas(), start=kept[0])
    assert torch.equal(kept[0]["parameters"]["shape"][0], before)
    assert torch.equal(kept[0]["optimiser"]["state"][0]["exp_avg"], momentum)


def test_strange_states_are_refused() -> None:
    state, _ = run(*canvas())
    with pytest.raises(ValueError, match="other names or shapes"):
        run(torch.zeros(2, requires_grad=True), torch.zeros(1, requires_grad=True), start=state)
    with pytest.raises(ValueError, match="kept after step 40, but there are 10 steps"):
        run(*canvas(), steps=10, start=state)


def test_gradients_that_are_no_numbers_stop_it() -> None:
    picture = torch.zeros(1, requires_grad=True)
    group, rng = Group("picture", [picture], lambda _: 0.1), Generator()
    loop = partial(distill, [group], rng=rng, settings=SETTINGS)
    with pytest.raises(FloatingPointError, match="not finite at step 0"):
        loop(lambda _s, _r: Rendered(picture * 1), lambda _d, _s, _r: torch.full((1,), torch.nan))
    with pytest.raises(FloatingPointError, match="penalty is not finite at step 0"):
        loop(
            lambda _s, _r: Rendered(picture * 1, penalty=(picture / 0).sum()),
            lambda _d, _s, _r: None,
        )


def test_a_step_without_a_guide_follows_the_penalty() -> None:
    picture = torch.ones(1, requires_grad=True)
    told: list[float] = []
    distill(
        [Group("picture", [picture], lambda _: 0.1)],
        lambda _s, _r: Rendered(picture * 1, penalty=picture.square().sum()),
        lambda _d, _s, _r: None,
        Generator(),
        DistillSettings(steps=50),
        report=told.append,
    )
    assert abs(float(picture.detach())) < 0.2
    assert told[-1] == 1
    assert len(told) == 50
