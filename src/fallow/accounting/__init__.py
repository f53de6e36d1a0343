"""What a model costs: parameters, floating-point operations, bytes. Counted, never estimated by running it."""

from fallow.accounting.flops import Flops, count_flops
from fallow.accounting.memory import Bytes, Memory, measure_memory
from fallow.accounting.parameters import GroupCounts, Parameters, count_parameters

__all__ = [
    "Bytes",
    "Flops",
    "GroupCounts",
    "Memory",
    "Parameters",
    "count_flops",
    "count_parameters",
    "measure_memory",
]
