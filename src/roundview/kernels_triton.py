"""How the package's Triton kernels are compiled and launched."""

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


def is_interpreted(kernel: Any) -> bool:  # noqa: ANN401  what `jit` returns
    """Whether a kernel runs in the interpreter: what counts is the time when it was defined."""
    return not isinstance(kernel, triton.runtime.JITFunction)


def on(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Launch kernels on the tensors' GPU, which need not be the current one."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def launch(
    kernel: Any,  # noqa: ANN401  what `jit` returns
    programs: tuple[int, ...],
    *arguments: Any,  # noqa: ANN401  a kernel takes anything
    **constants: Any,  # noqa: ANN401  a kernel takes anything
) -> None:
    """Launch a kernel, unless it has nothing to do: an empty grid is an error."""
    if min(programs) > 0:
        kernel[programs](*arguments, **constants)


def launch_at(
    kernel: Any,  # noqa: ANN401  what `jit` returns
    programs: tuple[int, ...],
    place: torch.device,
    *arguments: Any,  # noqa: ANN401  a kernel takes anything
    **constants: Any,  # noqa: ANN401  a kernel takes anything
) -> None:
    """Launch a kernel by itself, on the GPU of the tensors."""
    with on(place):
        launch(kernel, programs, *arguments, **constants)
