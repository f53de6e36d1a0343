"""An update in one small file of ours: factors, entries with their places, a head; no weight of the base."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fallow.conversion import RECORD, convert
from fallow.errors import UserError
from fallow.files import atomic
from fallow.folder import chosen_positions, read_supports
from fallow.hf.peft_export import fingerprint, updated_layers
from fallow.linear import linear_sites
from fallow.linear.inputs import dense_weight
from fallow.methods import Method, method_of
from fallow.methods.adapted import is_head
from fallow.methods.base import reparam_layers
from fallow.methods.registry import method_to_dict

_FORMAT = 1
_KEY = "fallow_update"
_TERMS = ("low_rank_a", "low_rank_b", "values")


def save_update(model: nn.Module, file: str | Path) -> int:
    """Write what tuning added to a frozen model (LoRA or DSEE) as one safetensors file; returns its bytes.

    Factors of rank r and c entries of a d_out x d_in matrix cost 4 r (d_out + d_in) + 8 c bytes, places included, where
    the same as a LoRA of PEFT costs 4 (r + c) (d_out + d_in). A checksum of the frozen weights says which model the
    update belongs to; of a pruned model that is the pruned one.

    Args:
        model: converted by `lora` or `dsee`.
        file: usually ending in .safetensors; replaced as a whole or not at all.

    Raises:
        UserError: the model has no update beside a base.
    """
    from safetensors.torch import save_file

    layers, path = updated_layers(model), Path(file)
    record = getattr(model, RECORD)
    tensors = {
        f"{name}.{term}": getattr(layer, term).detach().cpu().contiguous()
        for name, layer in layers.items()
        for term in _TERMS
        if getattr(layer, term) is not None
    }
    tensors |= {name: p.detach().cpu().contiguous() for name, p in model.named_parameters() if is_head(name)}
    known = {
        "format": _FORMAT,
        "method": method_to_dict(record.method),
        "targets": list(record.targets),
        "seed": record.seed,
        "base": fingerprint({name: layer.base for name, layer in layers.items() if layer.base is not None}),
    }
    with atomic(path) as temporary:
        save_file(tensors | chosen_positions(model), temporary, metadata={_KEY: json.dumps(known)})
    return path.stat().st_size


def load_update(model: nn.Module, file: str | Path) -> Method:
    """Convert a stock model by the update in a file of `save_update`; returns the method.

    Args:
        model: the very base that the update was tuned on, in the same precision; changed in place.
        file: of `save_update`.

    Raises:
        UserError: no such file, a damaged one, or one that was made for another base.

    >>> import copy, tempfile
    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=32, vocab_size=50))
    >>> stock, report = copy.deepcopy(model), convert(model, "dsee", rank=2, entries=4)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     size = save_update(model, folder + "/update.safetensors")
    ...     load_update(stock, folder + "/update.safetensors").entries
    4
    """
    path = Path(file)
    known, tensors = _read(path)
    if known.get("format") != _FORMAT:
        raise UserError(f"{path} was written in format {known.get('format')}; this fallow reads format {_FORMAT}")
    sites = linear_sites(model)
    adapted = sorted({name.rpartition(".")[0] for name in tensors if name.endswith(".low_rank_a")})
    if absent := [name for name in adapted if name not in sites]:
        raise UserError(
            f"{path} was made for another base: it changes {absent[0]}, which this {type(model).__name__} does not have"
        )
    if fingerprint({name: dense_weight(model.get_submodule(name)) for name in adapted}) != known.get("base"):
        raise UserError(
            f"{path} was made for another base: the weights of its layers have another checksum. Give the model that "
            "was tuned, in the same precision (and pruned, if it was)"
        )
    settings = dict(known["method"])
    method = method_of(settings.pop("name"), **settings)
    supports = read_supports(path, {name: site.shape for name, site in sites.items()})
    convert(model, method, targets=known["targets"], seed=known["seed"], pretrained=True, supports=supports)
    parameters = dict(model.named_parameters())
    expected = {
        f"{name}.{t}" for name, la in reparam_layers(model).items() for t in _TERMS if getattr(la, t) is not None
    }
    given = {name: tensor for name, tensor in tensors.items() if not name.endswith(".positions")}
    for name in sorted(expected ^ {n for n in given if n.rpartition(".")[2] in _TERMS}):
        raise UserError(f"{path} is damaged: {name} is {'in the model' if name in expected else 'in the file'} alone")
    with torch.no_grad():
        for name, tensor in given.items():
            if name not in parameters or parameters[name].shape != tensor.shape:
                raise UserError(f"{path} was made for another base: it holds {name} of shape {tuple(tensor.shape)}")
            parameters[name].copy_(tensor)
    return method


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise UserError(f"{path} is missing")
    try:
        with safe_open(path, framework="pt") as file:
            known = json.loads((file.metadata() or {})[_KEY])
            return known, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except (SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"{path} is no update of fallow.save_update, or damaged: {error}") from error
