"""What the optimizer of a stage remembers, handed on to the stage that goes on with its model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from fallow.errors import UserError
from fallow.files import atomic
from fallow.methods.base import TransfersOptimizerState
from fallow.run.recipe import Recipe
from fallow.run.stage import Stage
from fallow.train.optimizers.parameters import trainable

FILE = "fallow-moments.safetensors"
"""In a stage's folder, where a later stage asks for it; as large as two models in float32."""

_MEANS: dict[str, Literal[1, 2]] = {"exp_avg": 1, "exp_avg_sq": 2}


def is_wanted(recipe: Recipe, stage: Stage) -> bool:
    """Whether another stage goes on with the moments of this one."""
    return any(later.model.moments and later.model.stage == stage.name for later in recipe.stages)


def write_moments(
    model: nn.Module, optimizer: torch.optim.Optimizer, method: TransfersOptimizerState, folder: Path, *, is_main: bool
) -> None:
    """Write the moments as the merged model will have them; called by all processes, before merging."""
    from safetensors.torch import save_file

    parameters = trainable(model)
    found: dict[str, torch.Tensor] = {}
    for key, power in _MEANS.items():
        whole = {
            name: _whole(optimizer.state[p][key]).float().cpu()
            for name, p in parameters.items()
            if key in optimizer.state.get(p, {})
        }
        if is_main:
            mapped = method.map_optimizer_state(model, whole, power)
            found |= {f"{key}.{name}": tensor.contiguous() for name, tensor in mapped.items()}
    if is_main:
        steps = max(float(state["step"]) for state in optimizer.state.values())
        folder.mkdir(parents=True, exist_ok=True)
        with atomic(folder / FILE) as temporary:
            save_file({**found, "step": torch.tensor(steps)}, temporary)


def starter(folder: Path, beside: Callable[[str], bool]) -> Callable[[nn.Module, torch.optim.Optimizer], None]:
    """What fills a new optimizer with the moments in a stage's folder.

    Args:
        folder: of the earlier stage.
        beside: whether a parameter is no weight, and begins without moments.

    Raises:
        UserError: (when called) they are absent, damaged, or not those of the model.
    """

    def start(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = folder / FILE
        again = "Run the recipe with --restart, or remove model.moments"
        if not path.is_file():
            raise UserError(f"{path} does not exist: that stage was finished before anything asked for it. {again}")
        try:
            saved = load_file(path)
        except SafetensorError as error:
            raise UserError(f"{path} is damaged: {error}. {again}") from None
        for name, parameter in trainable(model).items():
            if f"exp_avg.{name}" not in saved and beside(name):
                continue
            if any(tuple(saved.get(f"{key}.{name}", torch.empty(0)).shape) != tuple(parameter.shape) for key in _MEANS):
                raise UserError(f"{path} holds nothing that fits {name}. {again}")
            state: dict[str, Any] = {key: _shared(saved[f"{key}.{name}"], parameter) for key in _MEANS}
            state["step"] = saved["step"].clone().to(parameter.device)
            optimizer.state[parameter] = state

    return start


def _whole(tensor: Any) -> torch.Tensor:
    found: torch.Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return found


def _shared(tensor: torch.Tensor, parameter: Any) -> torch.Tensor:
    """In the type of the parameter, and shared over the processes as it is."""
    placed = tensor.to(device=parameter.device, dtype=parameter.dtype)
    if not hasattr(parameter, "device_mesh"):
        return placed
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(placed, parameter.device_mesh, parameter.placements)
