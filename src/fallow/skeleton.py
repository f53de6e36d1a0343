"""A model whose parameters have sizes and no values: for weights that come from a file, so nothing is drawn in vain.

Also how many parameters the making of a model may register.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from fallow.errors import UserError

_MOST_TENSORS = 200_000


@contextmanager
def registered_as(change: Callable[[nn.Parameter | None], nn.Parameter | None]) -> Iterator[None]:
    """What `change` makes of each parameter is what modules that are made inside register."""
    register = nn.Module.register_parameter

    def changed(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        register(module, name, change(parameter))

    patched: Any = changed
    nn.Module.register_parameter = patched  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


@contextmanager
def without_values() -> Iterator[None]:
    """Parameters of modules that are made inside go to the meta device; buffers, which no file holds, are real.

    A dense weight exists for no longer than its module takes to be made, so that a large model costs no memory.

    >>> with without_values():
    ...     layer = nn.Linear(4, 2)
    >>> layer.weight.is_meta
    True
    """

    def on_meta(parameter: nn.Parameter | None) -> nn.Parameter | None:
        if parameter is None or parameter.is_meta:
            return parameter
        return nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)

    with registered_as(on_meta):
        yield


@contextmanager
def few_tensors() -> Iterator[None]:
    """Ends the making of a model that would never end.

    Raises:
        UserError: it has more tensors than any model.
    """
    numbers = itertools.count(1)

    def counted(parameter: nn.Parameter | None) -> nn.Parameter | None:
        if next(numbers) > _MOST_TENSORS:
            raise UserError(f"the model has more than {_MOST_TENSORS:,} tensors. Give it fewer layers or experts.")
        return parameter

    with registered_as(counted):
        yield


def fill(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give parameters and buffers these values, types included; a shared parameter stays shared.

    Args:
        model: in place.
        tensors: by name; sizes are those of the model.
    """
    places: dict[int, list[tuple[nn.Module, str]]] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            places.setdefault(id(parameter), []).append((module, name))
        for name, buffer in module.named_buffers(recurse=False, remove_duplicate=False):
            places.setdefault(id(buffer), []).append((module, name))
    parameters = dict(model.named_parameters())
    buffers = dict(model.named_buffers())
    for name, tensor in tensors.items():
        old = buffers[name] if name in buffers else parameters[name]
        new = tensor if old.is_meta else tensor.to(old.device)
        if name not in buffers:
            new = nn.Parameter(new, requires_grad=old.requires_grad)
        for module, leaf in places[id(old)]:
            setattr(module, leaf, new)
