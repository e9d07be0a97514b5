"""How the Triton kernels of fields are compiled and launched."""

import contextlib
import inspect
from collections.abc import Callable
from typing import Any

import torch
import triton


def jit(function: Callable[..., Any]) -> Any:  # noqa: ANN401  a kernel is launched as kernel[grid](...)
    """Compile as `triton.jit` does, also where a test run has wrapped functions in type checks.

    With TRITON_INTERPRET=1 in the environment, kernels run on the CPU in Triton's interpreter.
    """
    return triton.jit(inspect.unwrap(function))


def launch(
    kernel: Any,  # noqa: ANN401  what `jit` returns
    programs: tuple[int, ...],
    place: torch.device,
    *arguments: Any,  # noqa: ANN401  a kernel takes anything
    **constants: Any,  # noqa: ANN401  a kernel takes anything
) -> None:
    """Launch a kernel on the tensors' GPU, which need not be the current one, if it has work."""
    on = torch.cuda.device(place) if place.type == "cuda" else contextlib.nullcontext()
    with on:
        if min(programs) > 0:  # An empty grid is an error.
            kernel[programs](*arguments, **constants)
