"""Has Triton's compiler make machine code from every kernel, for GPUs that need not be here; prints a line for each.

Run in a process of its own, since Triton decides once whether it interprets.
"""

import os

os.environ.pop("TRITON_INTERPRET", None)

from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from fallow.linear.kernels.gpu import weight_kernels

SUPPORT = {"values": "*fp32", "pointers": "*i32", "columns": "*i16"}
SIZES = dict.fromkeys(("d_in", "d_out", "rank", "tokens"), "i32") | {"scale": "fp32"}
ROWS = {"NARROW": True, "CHUNK": 1024}
TILES = {"NARROW": True, "STEPS": 13, "ROWS": 64, "COLUMNS": 128, "RANK": 32, "CHUNK": 32, "PRECISION": "ieee"}

VARIANTS: list[tuple[Any, dict[str, str], dict[str, Any], int]] = [
    (weight_kernels.build_rows, {"weight": "*bf16"}, {**ROWS, "base": None, "HAS_BASE": False, "FILL": 4096}, 80),
    (weight_kernels.build_rows, {"weight": "*fp16", "base": "*fp32"}, {**ROWS, "HAS_BASE": True, "FILL": 64}, 90),
    (weight_kernels.take_rows, {"weight": "*bf16", "found": "*fp32"}, ROWS, 80),
    (
        weight_kernels.build_tiles,
        {"weight": "*bf16", "a": "*fp32", "b": "*fp32"},
        {**TILES, "base": None, "HAS_BASE": False, "HAS_VALUES": True},
        80,
    ),
    (
        weight_kernels.build_tiles,
        {"weight": "*fp32", "a": "*fp32", "b": "*fp32", "base": "*fp32", "pointers": "*i64", "columns": "*i32"},
        {**TILES, "HAS_BASE": True, "HAS_VALUES": True, "NARROW": False, "PRECISION": "tf32", "ROWS": 16},
        90,
    ),
]
"""Kernel, types of its pointers, constants, compute capability."""


def compiled(kernel: Any, pointers: dict[str, str], constants: dict[str, Any], capability: int) -> Any:
    known = {**SUPPORT, **SIZES, **pointers}
    signature = {name: "constexpr" if name in constants else known[name] for name in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32))


def main() -> None:
    for kernel, pointers, constants, capability in VARIANTS:
        made = compiled(kernel, pointers, constants, capability)
        code = made.asm["ptx"]
        written = code.find("st.global")
        waits = written < code.find("bar.sync", written) < code.rfind("st.global")
        print(kernel.__name__, capability, len(made.asm["cubin"]), made.metadata.shared, waits, flush=True)


if __name__ == "__main__":
    main()
