"""Products of the blocks that exist, by Triton kernels; for supports of kind `block` on GPUs."""

from torch import Tensor

from fallow.linear.kernels.gpu import available
from fallow.linear.kernels.gpu.block_operators import block_linear
from fallow.linear.operands import Operands
from fallow.linear.paths.low_rank import other_terms
from fallow.linear.paths.materialise import materialise


def block(x: Tensor, operands: Operands) -> Tensor:
    """Y = x base^T + scale (x A^T) B^T + x S^T + bias, each term on its own, the sparse one block by block.

    Forward, input gradient and the gradient at the blocks each multiply only the blocks that exist, on tensor cores,
    with sums in fp32; nothing of size d_out x d_in is built, and no gradient outside the blocks. Blocks have an edge of
    16, 32, 64 or 128: the larger, the better tensor cores are fed.

    Where the kernels do not act (no GPU, fp64, torch.func, gradients of gradients, no entries), this is `materialise`.
    """
    if operands.structure_s is None or not operands.block or not available.take(x):
        return materialise(x, operands)
    assert operands.values_n is not None
    assert operands.row_pointers_o is not None
    assert operands.columns_n is not None
    if not operands.values_n.numel():
        return materialise(x, operands)
    x_ti = x.reshape(-1, x.shape[-1])
    y_to = block_linear(
        x_ti,
        operands.values_n,
        operands.row_pointers_o,
        operands.columns_n,
        operands.structure_s,
        operands.bias_o,
        operands.block,
    )
    rest_to = other_terms(x_ti, operands)
    y_to = y_to if rest_to is None else y_to + rest_to
    return y_to.view(*x.shape[:-1], operands.shape[0])
