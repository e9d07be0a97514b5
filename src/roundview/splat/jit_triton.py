"""How the package's Triton kernels are compiled."""

import inspect
from collections.abc import Callable
from typing import Any

import triton


def jit(function: Callable[..., Any]) -> Any:  # noqa: ANN401  a kernel is launched as kernel[grid](...)
    """Compile as `triton.jit` does, also where a test run has wrapped functions in type checks.

    With TRITON_INTERPRET=1 in the environment, kernels run on the CPU in Triton's interpreter.
    """
    return triton.jit(inspect.unwrap(function))


def is_interpreted(kernel: Any) -> bool:  # noqa: ANN401  what `jit` returns
    """Whether a kernel runs in the interpreter: what counts is the time when it was defined."""
    return not isinstance(kernel, triton.runtime.JITFunction)
