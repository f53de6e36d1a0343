"""Has Triton compile every kernel as its launches ask for it, for GPUs that need not be here; a line of JSON for each.

The launches themselves are those of the package, with tensors on the CPU: a pretended driver names the GPU, arguments
are bound and specialised as on it, and machine code is made; it is not run. In a process of its own, since Triton
decides once whether it interprets.
"""

import json
from typing import Any

import torch

PRETENDED = ((80, torch.bfloat16, (16, 128)), (90, torch.float32, (64,)))
"""Compute capability, type of the activations, edges of blocks."""


class Pretended:
    """The driver of a GPU."""

    def __init__(self, capability: int) -> None:
        self.capability = capability

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self) -> int:
        return self.capability  # kernels are kept by device

    def get_current_stream(self, _: int) -> int:
        return 0


def launches(dtype: torch.dtype, sizes: tuple[int, ...]) -> None:
    """Everything that the package launches, with values in fp32 and activations in `dtype`."""
    from fallow.linear.kernels.gpu import blocks, weight
    from fallow.linear.kernels.gpu.block_structure import make_block_structure
    from fallow.random import Key
    from fallow.supports import Block, Uniform

    shape = (256, 4096)
    support = Uniform().draw(shape, 0.25, Key(0))
    held = (torch.randn(support.nnz), support.row_pointers, support.columns)
    base, a, b = torch.randn(shape), torch.randn(64, shape[1]), torch.randn(shape[0], 64)
    for terms in (
        (None, None, None, 1.0, *held),
        (base, None, None, 1.0, *held),
        (None, a, b, 0.5, *held),
        (base, a, b, 0.5, None, None, None),
    ):
        weight.build(shape, dtype, *terms)
    weight.take(base.to(dtype), *held[1:], torch.float32)
    for size in sizes:
        support = Block(size).draw(shape, 0.5, Key(0))
        held = (torch.randn(support.nnz), support.row_pointers, support.columns)
        x, grad = torch.randn(300, shape[1]).to(dtype), torch.randn(300, shape[0]).to(dtype)
        structure = make_block_structure(shape, support.row_pointers, support.columns, size)
        blocks.product(x, *held, torch.zeros(shape[0]), size)
        blocks.gradients(grad, x, *held, structure, size, [True, True])


def main() -> None:
    from triton.runtime import driver
    from triton.runtime.jit import JITFunction

    run, made = JITFunction.run, []

    def compile_only(self: Any, *args: Any, **kwargs: Any) -> Any:
        kernel = run(self, *args, **{**kwargs, "warmup": True})
        made.append(kernel)
        return kernel

    JITFunction.run = compile_only
    for capability, dtype, sizes in PRETENDED:
        driver.set_active(Pretended(capability))
        launches(dtype, sizes)
        for kernel in made:
            code = kernel.asm["ptx"]
            written = code.find("st.global")
            waits = written < code.find("bar.sync", written) < code.rfind("st.global")
            size, shared = len(kernel.asm["cubin"]), kernel.metadata.shared
            row = {"name": kernel.metadata.name, "capability": capability, "bytes": size}
            print(json.dumps({**row, "shared": shared, "waits": waits}), flush=True)
        made.clear()


if __name__ == "__main__":
    main()
