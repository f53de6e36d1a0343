"""What a model costs: parameters, floating-point operations, bytes. Counted, never estimated by running it.

Nothing is imported before it is used.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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

_HOMES = {
    "Bytes": "memory",
    "Flops": "flops",
    "GroupCounts": "parameters",
    "Memory": "memory",
    "Parameters": "parameters",
    "count_flops": "flops",
    "count_parameters": "parameters",
    "measure_memory": "memory",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"fallow.accounting.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'fallow.accounting' has no attribute '{name}'")
