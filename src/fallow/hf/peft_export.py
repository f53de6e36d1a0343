"""An update as a stock LoRA of PEFT: the same outputs, without any code of ours where it is loaded."""

import copy
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fallow.conversion import merge
from fallow.errors import UserError
from fallow.files import fill_folder, sort_metadata, write_json
from fallow.linear import ReparamLinear
from fallow.linear.inputs import stock_layer
from fallow.methods.adapted import is_head
from fallow.methods.base import reparam_layers

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
BASE_KEY = "fallow_base"
"""In the metadata of files with updates of ours: a checksum of the frozen weights that they belong to."""

PREFIX = "base_model.model."
"""Before each name in an adapter's file: PEFT's wrapper and the model in it."""


def to_peft(model: nn.Module, folder: str | Path, *, base: str = "") -> int:
    r"""Write the update of a model (LoRA or DSEE) as a folder that PEFT loads as a plain LoRA; returns its rank.

    U V + S is itself of low rank: an entry s at row i and column j is s e_i e_j^T, a column with one number times a row
    with a one. So with c entries

        dW = alpha / rank * [B | scaled columns] [A ; rows with a one]    is a LoRA of rank r + c

    and of rank 2 (r + c) in a fused projection of which queries and values are adapted: rows of B are zero for keys.
    The outputs are equal up to rounding. `base_model(model)` gives the stock model that the adapter belongs on; of a
    pruned model it is the pruned one.

    A head of a task is written along, in `modules_to_save`. Training it on in PEFT would train the rows of S, too.

    Args:
        model: converted by `lora` or `dsee`.
        folder: made when it is not there.
        base: what PEFT shall say the adapter belongs to: a folder or a name on the Hub.

    Raises:
        UserError: the model has no update beside a base.
    """
    layers = updated_layers(model)
    bases = {name: layer.base for name, layer in layers.items() if layer.base is not None}
    tensors: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    scales: dict[str, float] = {}
    for name, layer in layers.items():
        scales[name], a_ri, b_or = as_low_rank(layer)
        ranks[name] = a_ri.shape[0]
        tensors[f"{PREFIX}{name}.lora_A.weight"] = a_ri.contiguous()
        tensors[f"{PREFIX}{name}.lora_B.weight"] = b_or.contiguous()
    heads = sorted({name.split(".")[0] for name, _ in model.named_parameters() if is_head(name)})
    tensors |= {f"{PREFIX}{n}": p.detach().cpu().contiguous() for n, p in model.named_parameters() if is_head(n)}
    rank, scale = max(ranks.values()), next(iter(scales.values()))
    config = {
        "peft_type": "LORA",
        "task_type": _task_type(model, heads),
        "base_model_name_or_path": base or None,
        "r": rank,
        "lora_alpha": scale * rank,
        "target_modules": sorted(layers),
        "fan_in_fan_out": next(iter(layers.values())).site.transposed,
        "modules_to_save": heads or None,
        "rank_pattern": {f"^{name}$": r for name, r in ranks.items() if r != rank},
        "alpha_pattern": {
            f"^{name}$": scales[name] * r for name, r in ranks.items() if r != rank or scales[name] != scale
        },
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
    }
    path = Path(folder)
    from safetensors.torch import save_file

    with fill_folder(path, last=(CONFIG_FILE,)) as temporary:
        save_file(tensors, temporary / WEIGHTS_FILE, metadata={"format": "pt", BASE_KEY: fingerprint(bases)})
        sort_metadata(temporary / WEIGHTS_FILE)
        write_json(temporary / CONFIG_FILE, config)
    return rank


def _task_type(model: Any, heads: list[str]) -> str | None:
    if heads:
        return "SEQ_CLS"
    return "CAUSAL_LM" if model.can_generate() else None


def base_model(model: nn.Module) -> nn.Module:
    """A copy of a model without its update: stock layers with the (pruned) weights that the update is added to.

    Raises:
        UserError: the model has no update beside a base.
    """
    layers = updated_layers(model)
    stock = copy.deepcopy(model)
    for name in layers:
        layer: Any = stock.get_submodule(name)
        parent, _, child = name.rpartition(".")
        setattr(stock.get_submodule(parent), child, stock_layer(layer.site, layer.base.detach(), layer.bias))
    return merge(stock)


def updated_layers(model: nn.Module) -> dict[str, ReparamLinear]:
    """The layers with an update beside a base.

    Raises:
        UserError: there is none.
    """
    found = {
        name: layer
        for name, layer in reparam_layers(model).items()
        if layer.base is not None and (layer.low_rank_a is not None or layer.values is not None)
    }
    if not found:
        raise UserError(
            f"this {type(model).__name__} has no update beside its weights. Give a model converted by lora or dsee "
            "that is not merged, such as the folder unmerged of a stage. What method peft trained lies in the folder "
            "adapter of its model"
        )
    return found


def fingerprint(weights: Mapping[str, Tensor]) -> str:
    """A checksum of frozen weights (d_out, d_in) by name of layer."""
    state = hashlib.blake2b(digest_size=16)
    for name in sorted(weights):
        state.update(name.encode())
        state.update(weights[name].detach().float().cpu().contiguous().numpy().data)
    return state.hexdigest()


def as_low_rank(layer: ReparamLinear) -> tuple[float, Tensor, Tensor]:
    """(scale, A, B) with dW = scale * B A, entries of S as one-hot columns of B and rows of A."""
    operands = layer.operands().widened()
    scale = operands.scale or 1.0
    d_out, d_in = layer.site.shape
    rows = [] if operands.a_ri is None else [operands.a_ri.detach().cpu()]
    columns = [] if operands.b_or is None else [operands.b_or.detach().cpu()]
    if operands.values_n is not None:
        values_n, flat_n = operands.values_n.detach().cpu(), operands.flat().cpu()
        number_n = torch.arange(len(values_n))
        ones_ni, entries_on = values_n.new_zeros(len(values_n), d_in), values_n.new_zeros(d_out, len(values_n))
        ones_ni[number_n, flat_n % d_in] = 1.0
        entries_on[flat_n // d_in, number_n] = values_n / scale
        rows.append(ones_ni)
        columns.append(entries_on)
    return scale, torch.cat(rows), torch.cat(columns, dim=1)
