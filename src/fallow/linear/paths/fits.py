"""Which layers a path cannot compute, and why."""

from fallow.linear.kernels.gpu.block_structure import SIZES
from fallow.linear.paths.structures import block_size
from fallow.linear.terms import Terms


def unfit(path: str, terms: Terms) -> str:
    """Why a path cannot compute a layer of these terms, and what to write instead; empty where it can.

    Args:
        path: by name.
        terms: of the layer.

    >>> from fallow.linear import Base
    >>> unfit("block", Terms(base=Base()))
    'it needs a support of blocks: block:16, block:32, block:64 or block:128'
    """
    if path == "block" and block_size(terms) not in SIZES:
        return "it needs a support of blocks: block:16, block:32, block:64 or block:128"
    return ""
