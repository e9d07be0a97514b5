"""Compile every Triton kernel for an H100 or H200 (sm_90); a GPU need not be there.

    python benchmarks/kernel_registers.py

Prints the registers that each takes. A kernel that spills them to memory is an error.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from roundview.splat.colour_triton import sh_backward_kernel
from roundview.splat.pairs_triton import count_kernel, pair_kernel
from roundview.splat.project_back_triton import project_backward_kernel
from roundview.splat.project_triton import project_kernel
from roundview.splat.tiles_triton import draw_backward_kernel, draw_kernel, sum_slots_kernel
from roundview.surface import antialias_triton as outlines
from roundview.surface import raster_triton as raster

NUMBERS, SHORT, WHOLE, LONG, SIZE = "*fp32", "*i16", "*i32", "*i64", "i32"
TILE = {"TILE": 16, "CHUNK": 32}
PAIRS = [NUMBERS, LONG, LONG, WHOLE]
RESULT = [WHOLE, NUMBERS, NUMBERS]
EDGES = [NUMBERS, NUMBERS, LONG, LONG]
BIT = "*i1"
BACK = [*[NUMBERS] * 6, WHOLE, *[NUMBERS] * 7, *[SIZE] * 4]
KERNELS: list[tuple[Any, list[str], dict[str, int], int]] = [
    (project_kernel, [*[NUMBERS] * 8, *[SIZE] * 3], {"TERMS": 1, "BLOCK": 128}, 4),
    (project_kernel, [*[NUMBERS] * 8, *[SIZE] * 3], {"TERMS": 16, "BLOCK": 128}, 4),
    (count_kernel, [NUMBERS, NUMBERS, WHOLE, *[SIZE] * 3], {"TILE": 16, "BLOCK": 64}, 1),
    (pair_kernel, [*PAIRS, SHORT, WHOLE, *[SIZE] * 4], {"TILE": 16, "BLOCK": 64}, 1),
    (pair_kernel, [*PAIRS, WHOLE, WHOLE, *[SIZE] * 4], {"TILE": 16, "BLOCK": 64}, 1),
    (draw_kernel, [NUMBERS, WHOLE, LONG, *[NUMBERS] * 5, *[SIZE] * 2], TILE, 2),
    (draw_backward_kernel, [NUMBERS, WHOLE, LONG, LONG, *[NUMBERS] * 7, *[SIZE] * 2], TILE, 1),
    (sum_slots_kernel, [NUMBERS, LONG, WHOLE, NUMBERS, SIZE], {"BLOCK": 32, "CHUNK": 4}, 4),
    (project_backward_kernel, BACK, {"TERMS": 1, "CAMERAS": False, "BLOCK": 128}, 4),
    (project_backward_kernel, BACK, {"TERMS": 16, "CAMERAS": True, "BLOCK": 128}, 4),
    (sh_backward_kernel, [*[NUMBERS] * 5, SIZE, SIZE], {"TERMS": 1, "BLOCK": 128}, 4),
    (sh_backward_kernel, [*[NUMBERS] * 5, SIZE, SIZE], {"TERMS": 16, "BLOCK": 128}, 4),
    (raster.count_kernel, [NUMBERS, LONG, LONG, *[SIZE] * 5], {"BLOCK": 128}, 4),
    (raster.draw_kernel, [NUMBERS, *[LONG] * 4, *[SIZE] * 5], {"BLOCK": 8}, 4),
    (raster.look_up_kernel, [NUMBERS, *[LONG] * 2, *RESULT, *[SIZE] * 4], {"BLOCK": 256}, 4),
    (outlines.count_kernel, [*EDGES, LONG, *[SIZE] * 5], {"BLOCK": 128}, 4),
    (
        outlines.cross_kernel,
        [*EDGES, WHOLE, NUMBERS, *[LONG] * 3, *[SIZE] * 5],
        {"BLOCK": 128},
        4,
    ),
    (
        outlines.reach_kernel,
        [NUMBERS, BIT, NUMBERS, NUMBERS, LONG, NUMBERS, SIZE],
        {"BLOCK": 128},
        4,
    ),
    (
        outlines.reach_back_kernel,
        [NUMBERS, BIT, NUMBERS, LONG, NUMBERS, NUMBERS, SIZE],
        {"BLOCK": 128},
        4,
    ),
    (outlines.blend_kernel, [*[NUMBERS] * 4, *[SIZE] * 4], {"WIDE": 8, "BLOCK": 64}, 4),
    (outlines.blend_back_kernel, [*[NUMBERS] * 6, *[SIZE] * 4], {"WIDE": 8, "BLOCK": 64}, 4),
]


def compiled(
    kernel: Any,  # noqa: ANN401  Triton's
    kinds: list[str],
    constants: dict[str, int],
    warps: int,
    *,
    ones: bool,
) -> Any:  # noqa: ANN401  Triton's
    """Compile one kernel whose arrays begin at multiples of 16 bytes, as torch's do.

    `ones` makes all sizes 1: Triton compiles that apart, with a constant in place of the argument.
    """
    left = iter(kinds)
    signature = {
        name: "constexpr" if name in constants else next(left) for name in kernel.arg_names
    }
    if ones:
        sizes = [name for name, kind in signature.items() if kind == SIZE]
        constants = constants | dict.fromkeys(sizes, 1)
        signature = signature | dict.fromkeys(sizes, "constexpr")
    aligned = {
        (at,): [["tt.divisibility", 16]]
        for at, kind in enumerate(signature.values())
        if kind.startswith("*")
    }
    source = ASTSource(kernel, signature, constants, aligned)
    target = GPUTarget("cuda", 90, 32)
    return triton.compile(source, target=target, options={"num_warps": warps})


def resources(cubin: bytes) -> tuple[int, int]:
    """Registers of a thread, and bytes it spills."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(tool), "--dump-resource-usage", file.name]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    registers, spilled = re.search(r"REG:(\d+)", said), re.search(r"LOCAL:(\d+)", said)
    assert registers is not None
    assert spilled is not None
    return int(registers[1]), int(spilled[1])


def main() -> None:
    """Compile all."""
    for kernel, kinds, constants, warps in KERNELS:
        if not kernel.__module__.endswith(sys.argv[1] if len(sys.argv) > 1 else ""):
            continue
        compiled(kernel, kinds, constants, warps, ones=True)
        done = compiled(kernel, kinds, constants, warps, ones=False)
        registers, spilled = resources(done.asm["cubin"])
        print(f"{done.metadata.name} {constants} {warps} warps: {registers} registers", flush=True)
        if spilled:
            sys.exit(f"{done.metadata.name} spills {spilled} bytes a thread")


if __name__ == "__main__":
    main()
