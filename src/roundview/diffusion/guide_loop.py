"""The loop of a distillation: render, ask the guide, follow it; it can be stopped and gone on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from ..models import Report, silent


@dataclass(frozen=True, eq=False)
class Rendered:
    """What was rendered for one step.

    Attributes:
        picture: What the guide is shown, with its graph; samples along the first axis.
        penalty: Sum of all losses that are computed directly (of the photograph, regularisers), or
            None.
        about: What the guide must know of the picture: cameras, depth, which view it is.
    """

    picture: Tensor
    penalty: Float[Tensor, ""] | None = None
    about: Any = None


Render: TypeAlias = Callable[[int, Generator], Rendered]
"""render(step, rng): chooses cameras and renders."""
Guide: TypeAlias = Callable[[Rendered, int, Generator], Tensor | None]
"""guide(rendered, step, rng) -> gradient at `rendered.picture`, weight included; None for none."""
State: TypeAlias = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Group:
    """Parameters that share a learning rate.

    Attributes:
        name: For the state; each group has its own.
        parameters: Leaves that the rendering depends on.
        rate: Learning rate at a step.
        held: What rendering itself changes in place as the run goes on, such as which cells of a
            field are occupied: kept and set with the parameters.
    """

    name: str
    parameters: Sequence[Tensor]
    rate: Callable[[int], float]
    held: Sequence[Tensor] = ()


@dataclass(frozen=True)
class DistillSettings:
    """How the loop goes.

    Attributes:
        steps: Of the optimiser.
        betas: Of Adam; threestudio's for radiance fields.
        eps: Of Adam; threestudio's.
        weight_decay: Above 0, AdamW's.
        keep_every: Steps between two states that are kept, 0 for none.
    """

    steps: int
    betas: tuple[float, float] = (0.9, 0.99)
    eps: float = 1e-15
    weight_decay: float = 0.0
    keep_every: int = 0


def distill(
    groups: Sequence[Group],
    render: Render,
    guide: Guide,
    rng: Generator,
    settings: DistillSettings,
    *,
    start: Mapping[str, Any] | None = None,
    keep: Callable[[State], None] | None = None,
    report: Report = silent,
) -> State:
    """Change the parameters, in place, until the guide likes what they look like.

    Args:
        groups: What is optimised.
        render: Renders; may draw from `rng`.
        guide: Gives the gradient; may draw from `rng`.
        rng: CPU generator.
        settings: How many steps, and the optimiser's numbers.
        start: A state from `keep` or from an earlier call, to go on after it: parameters, optimiser
            and generator are set to it, and the result is that of a run that was never stopped.
        keep: Called with the state each `settings.keep_every` steps.
        report: Called with the fraction done.

    Returns:
        The state after the last step; it can be saved by `torch.save` and loaded weights-only.

    Raises:
        ValueError: If `start` is of other parameters or from beyond the last step.
        FloatingPointError: If a gradient is not finite.
    """
    optimiser = torch.optim.AdamW(
        [{"params": list(group.parameters), "lr": group.rate(0)} for group in groups],
        betas=settings.betas,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
    )
    first = 0 if start is None else _restored(start, groups, optimiser, rng, settings.steps)
    for step in range(first, settings.steps):
        for held, group in zip(optimiser.param_groups, groups, strict=True):
            held["lr"] = group.rate(step)
        optimiser.zero_grad(set_to_none=True)
        rendered = render(step, rng)
        _backward(rendered, guide(rendered, step, rng), step)
        optimiser.step()
        done = step + 1
        if keep is not None and settings.keep_every and done % settings.keep_every == 0:
            keep(_state(groups, optimiser, rng, done))
        report(done / settings.steps)
    return _state(groups, optimiser, rng, settings.steps)


def _backward(rendered: Rendered, gradient: Tensor | None, step: int) -> None:
    """Send the guide's gradient and that of the penalty back, in one pass."""
    roots: list[Tensor] = []
    slopes: list[Tensor | None] = []
    if gradient is not None:
        if not bool(torch.isfinite(gradient).all()):
            raise FloatingPointError(f"the guide's gradient is not finite at step {step}")
        roots, slopes = [rendered.picture], [gradient]
    if rendered.penalty is not None:
        if not bool(torch.isfinite(rendered.penalty)):
            raise FloatingPointError(f"the penalty is not finite at step {step}")
        roots, slopes = [*roots, rendered.penalty], [*slopes, None]
    if roots:
        torch.autograd.backward(roots, slopes)


def _state(
    groups: Sequence[Group], optimiser: torch.optim.Optimizer, rng: Generator, step: int
) -> State:
    return {
        "step": step,
        "parameters": {
            group.name: [p.detach().cpu().clone() for p in (*group.parameters, *group.held)]
            for group in groups
        },
        "optimiser": _copied(optimiser.state_dict()),
        "rng": rng.get_state(),
    }


def _restored(
    state: Mapping[str, Any],
    groups: Sequence[Group],
    optimiser: torch.optim.Optimizer,
    rng: Generator,
    steps: int,
) -> int:
    told: Mapping[str, list[Tensor]] = state["parameters"]
    whole = {group.name: [*group.parameters, *group.held] for group in groups}
    shapes = {name: [tuple(p.shape) for p in held] for name, held in whole.items()}
    if {name: [tuple(p.shape) for p in kept] for name, kept in told.items()} != shapes:
        raise ValueError(f"start holds parameters of other names or shapes than {shapes}")
    if not 0 <= state["step"] <= steps:
        raise ValueError(f"start was kept after step {state['step']}, but there are {steps} steps")
    with torch.no_grad():
        for name, held in whole.items():
            for parameter, value in zip(held, told[name], strict=True):
                parameter.copy_(value)
    # A copy: the optimiser takes what it loads for its own and changes it.
    optimiser.load_state_dict(_copied(state["optimiser"]))
    rng.set_state(state["rng"])
    return int(state["step"])


def _copied(value: Any) -> Any:  # noqa: ANN401  a tree of plain values and tensors
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list) else value
