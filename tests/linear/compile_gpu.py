"""Has Triton's compiler make machine code from every kernel, for GPUs that need not be here; prints a line for each.

Run in a process of its own, since Triton decides once whether it interprets; nothing of Triton is imported before.
"""

from typing import Any

SUPPORT = {"values": "*fp32", "pointers": "*i32", "columns": "*i16"}
BLOCKS = {"x": "*bf16", "grad": "*bf16", "values": "*fp32", "rows_of_blocks": "*i32"}
COLUMNS = {"column_begins": "*i32", "block_rows": "*i32", "numbers": "*i32"}
SIZES = dict.fromkeys(("d_in", "d_out", "rank", "tokens"), "i32") | {"scale": "fp32"}
ODD = ("tokens", "scale", "block_rows", "numbers", "rows_of_blocks")
"""What need not be a multiple of 16, or be aligned to 16 bytes."""

ROWS = {"NARROW": True, "CHUNK": 1024}
TILES = {"NARROW": True, "STEPS": 13, "ROWS": 64, "COLUMNS": 128, "RANK": 32, "CHUNK": 32, "PRECISION": "ieee"}

Variant = tuple[Any, dict[str, str], dict[str, Any], int]
"""Kernel, types of its pointers, constants, compute capability."""


def variants() -> list[Variant]:
    from fallow.linear.kernels.gpu import block_kernels, weight_kernels

    return [
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
        *(
            variant
            for size, step, precision, floats, capability in (
                (128, 64, "ieee", "*bf16", 80),
                (16, 16, "tf32", "*fp32", 90),
            )
            for constants in ({"SIZE": size, "PRECISION": precision},)
            for blocks in ({**BLOCKS, "x": floats, "grad": floats},)
            for variant in (
                (
                    block_kernels.forward,
                    {**blocks, "y": floats, "bias": "*fp32"},
                    {**constants, "HAS_BIAS": True, "NARROW": True, "STEP": step, "TOKENS": 128},
                    capability,
                ),
                (
                    block_kernels.backward_input,
                    {**blocks, **COLUMNS, "grad_x": floats},
                    {**constants, "STEP": step, "TOKENS": 128},
                    capability,
                ),
                (
                    block_kernels.backward_values,
                    {**blocks, "grad_values": "*fp32", "columns": "*i32"},
                    {**constants, "NARROW": False, "TOKENS": 64 if floats == "*bf16" else 32},
                    capability,
                ),
            )
        ),
    ]


def compiled(kernel: Any, pointers: dict[str, str], constants: dict[str, Any], capability: int) -> Any:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    known = {**SUPPORT, **SIZES, **pointers}
    signature = {name: "constexpr" if name in constants else known[name] for name in kernel.arg_names}
    even = [n for n, name in enumerate(kernel.arg_names) if signature[name] != "constexpr" and name not in ODD]
    attributes = {(number,): [["tt.divisibility", 16]] for number in even}  # as a launch finds them in real layers
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
    warps = 8 if constants.get("SIZE") == 128 else 4
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": warps})


def main() -> None:
    for kernel, pointers, constants, capability in variants():
        made = compiled(kernel, pointers, constants, capability)
        code = made.asm["ptx"]
        written = code.find("st.global")
        waits = written < code.find("bar.sync", written) < code.rfind("st.global")
        print(kernel.__name__, capability, len(made.asm["cubin"]), made.metadata.shared, waits, flush=True)


if __name__ == "__main__":
    main()
