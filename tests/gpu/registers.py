"""Compile passes for a card that need not be there, and say what they take: python -m tests.gpu.registers 80,90 [PASS …]"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from pipeline.models.kernels import gpu, merges, passes, sums
from pipeline.models.norms import NORMS

STORED = ("y", "d", "m", "grad_m", "grad_d", "grad_y")
NUMBERS = ("num_rows", "num_members", "num_frames", "dilation", "before", "num_0", "num_1", "num_2", "num_3")
CONSTANTS: dict[str, Any] = {
    "NUM_CHANNELS": 512, "BLOCK_CHANNELS": 512, "NUM_TILES": 16, "RECTIFIED": True, "NUM_COLUMNS": 7,
    "BLOCK_FRAMES": 2048, "PADDED": False,
}  # fmt: skip
"""Of the paper's network."""
OTHERS = ("merge", "merge_back", "add_up")
"""Kernels that are no passes over all rows."""


def compiled(name: str, card: int, num_warps: int, **constants: Any) -> str:
    """Registers, stack and shared memory of a pass, bfloat16 being stored."""
    kernel = next(getattr(module, name) for module in (passes, merges, sums) if hasattr(module, name))
    given = {p.name: (CONSTANTS | constants)[p.name] for p in kernel.params if p.is_constexpr}
    source = ASTSource(kernel, {p.name: kind_of(p) for p in kernel.params}, given)
    made = triton.compile(source, target=GPUTarget("cuda", card, 32), options={"num_warps": num_warps})
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        said = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True, timeout=60).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", said)
    assert found, said
    return f"registers {found[1]:>3}, stack {found[2]}, shared memory {made.metadata.shared}"


def kind_of(parameter: Any) -> str:
    """An argument's type, as Triton writes it."""
    if parameter.is_constexpr:
        return "constexpr"
    if parameter.name in NUMBERS:
        return "i32"
    if parameter.name == "eps":
        return "fp32"
    if parameter.name == "ends":
        return "*i64"
    return "*bf16" if parameter.name in STORED else "*fp32"


def main() -> None:
    """Print a line for every pass, and for every norm's merges."""
    cards, *names = sys.argv[1:]
    for card, name in product(map(int, cards.split(",")), names or (*gpu.SHAPES, *OTHERS)):
        shape = gpu.SHAPES.get(name, gpu.Shape(elements=CONSTANTS["NUM_CHANNELS"], num_warps=8, num_programs=1))
        rows = shape.elements // CONSTANTS["NUM_CHANNELS"]
        constants = {"BLOCK_ROWS": gpu.ROWS_ADDED, "BLOCK_CHANNELS": 32} if name == "add_up" else {"BLOCK_ROWS": rows}
        for norm in NORMS if "merge" in name else ("",):
            said = compiled(name, card, shape.num_warps, **constants, KIND=norm)
            print(f"sm_{card} {name} {norm}: {said}", flush=True)


if __name__ == "__main__":
    main()
