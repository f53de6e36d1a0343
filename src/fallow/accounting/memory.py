"""Bytes of the tensors that a training process really holds: weights, gradients, optimizer states, indices."""

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from fallow.linear.reparam import ReparamLinear

_INDICES = ("row_pointers", "columns", "structure")


@dataclass(kw_only=True, slots=True)
class Bytes:
    """Bytes by purpose."""

    weights: int = 0
    gradients: int = 0
    optimizer: int = 0
    """Moments and step counters."""

    indices: int = 0
    """Row pointers and columns of supports, and what paths derive from them and keep."""

    @property
    def total(self) -> int:
        """The sum."""
        return self.weights + self.gradients + self.optimizer + self.indices


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """Bytes of the chosen layers (by default the converted ones) and of everything else."""

    layers: Bytes
    rest: Bytes

    @property
    def total(self) -> int:
        """All bytes."""
        return self.layers.total + self.rest.total

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        parts = {"layers": self.layers, "rest": self.rest}
        return {"total": self.total, **{name: {**asdict(part), "total": part.total} for name, part in parts.items()}}


def measure_memory(
    model: nn.Module, optimizer: Optimizer | None = None, *, names: Collection[str] | None = None
) -> Memory:
    """Measure the tensors of a model and its optimizer as they are now, on this process.

    Memory that several parameters share (a tied head) counts once; of a sharded tensor only this process' shard counts.
    Gradients count when they exist, so measure between backward and `zero_grad` to see them. Activations and the
    temporary W of the path `materialise` are not tensors of the model and do not appear.

    Args:
        model: on any device; meta tensors count with the size they would have.
        optimizer: adds its states.
        names: modules that form `layers`. Default: the converted ones. Pass `converted_names(sparse_model)` with a
            dense model to compare the same layers.
    """
    chosen = set(converted_names(model) if names is None else names)
    memory = Memory(layers=Bytes(), rest=Bytes())
    seen: set[int] = set()
    for name, module in model.named_modules():
        part = memory.layers if _inside(name, chosen) else memory.rest
        for parameter in module.parameters(recurse=False):
            if id(parameter) in seen:
                continue
            seen.add(id(parameter))
            part.weights += num_bytes(parameter)
            part.gradients += 0 if parameter.grad is None else num_bytes(parameter.grad)
            if optimizer is not None:
                part.optimizer += sum(map(num_bytes, _tensors(optimizer.state.get(parameter, {}))))
        for key, buffer in module.named_buffers(recurse=False):
            if key in _INDICES:
                part.indices += num_bytes(buffer)
    return memory


def converted_names(model: nn.Module) -> list[str]:
    """Dotted names of the reparametrised layers."""
    return [name for name, module in model.named_modules() if isinstance(module, ReparamLinear)]


def num_bytes(tensor: Tensor) -> int:
    """Bytes of a tensor's elements on this process."""
    local: Any = getattr(tensor, "to_local", None)
    held: Tensor = tensor if local is None else local()
    return held.numel() * held.element_size()


def _inside(name: str, chosen: Collection[str]) -> bool:
    parts = name.split(".")
    return any(".".join(parts[:length]) in chosen for length in range(1, len(parts) + 1))


def _tensors(value: Any) -> Iterator[Tensor]:
    """Tensors in nested optimizer state."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
