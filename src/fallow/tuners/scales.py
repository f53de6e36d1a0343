"""Vectors of PEFT's IA3 inside the layers of a frozen model, and out again."""

from typing import Any

from torch import nn

from fallow.errors import UserError
from fallow.linear.cut import HEADS
from fallow.tuners.extra import peft

SCALES = ".ia3_l."
"""In the names of the trained vectors."""

ADAPTER = "default"
"""What PEFT calls the only adapter of a model."""


def attach_scales(model: nn.Module) -> Any:
    """Put IA3 on the layers that PEFT knows for the model's type; returns its configuration.

    Raises:
        UserError: PEFT is missing, or does not know the type.
    """
    library = peft()
    if getattr(model, HEADS, None):
        raise UserError("kind ia3 is for models of stock shape, but heads were cut out of this one")
    stock: Any = model
    config = library.IA3Config(
        task_type="CAUSAL_LM" if stock.can_generate() else "SEQ_CLS",
        fan_in_fan_out=any(type(module).__name__ == "Conv1D" for module in model.modules()),
    )
    try:
        library.inject_adapter_in_model(config, model, adapter_name=ADAPTER)
    except ValueError as error:
        raise UserError(
            f"PEFT does not know where ia3 belongs in a {type(model).__name__}: {error}. Use kind prefix or p_tuning_v2"
        ) from error
    return config


def merge_scales(model: nn.Module) -> None:
    """Multiply the vectors into the weights, and put the stock layers back."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in [(n, m) for n, m in model.named_modules() if isinstance(m, BaseTunerLayer)]:
        layer: Any = module
        layer.merge()
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layer.get_base_layer())
    vars(model).pop("peft_config", None)
