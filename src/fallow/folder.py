"""A converted model on disk: safetensors and JSON, and nothing that a plain loader could take for a whole model."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fallow.conversion import RECORD, Record, convert
from fallow.errors import UserError
from fallow.methods import method_of
from fallow.methods.base import reparam_layers
from fallow.methods.registry import method_to_dict

RECORD_FILE = "fallow.json"
WEIGHTS_FILE = "fallow.safetensors"
_FORMAT = 1
_NOTICE = (
    "this folder holds a fallow model that is not merged. Load it with fallow.load(folder), "
    "or write: fallow merge FOLDER --output MERGED"
)


def save(model: nn.Module, folder: str | Path) -> None:
    """Write a model, converted or not, so that `load` gives it back bit for bit.

    A model that is not converted is saved by its own `save_pretrained`. A converted one becomes `fallow.json` (method,
    seed, configuration, a checksum of every support) and `fallow.safetensors` (the parameters that exist: values,
    factors, biases and so on; no indices, they follow from seed and layer names), beside a `config.json` whose
    model type makes transformers stop with directions instead of loading random weights.
    """
    record: Record | None = getattr(model, RECORD, None)
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    if record is None:
        _pretrained(model).save_pretrained(path)
        return
    config = _pretrained(model).config.to_dict()
    description = {
        "format": _FORMAT,
        "architecture": type(model).__name__,
        "config": config,
        "method": method_to_dict(record.method),
        "targets": list(record.targets),
        "seed": record.seed,
        "path": record.path,
        "supports": {n: s.digest() for n, layer in reparam_layers(model).items() if (s := layer.support) is not None},
    }
    _write_weights(model, path / WEIGHTS_FILE)
    write_json(path / RECORD_FILE, description)
    write_json(path / "config.json", {"model_type": _NOTICE, "architectures": [type(model).__name__]})
    for stale in ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"):
        (path / stale).unlink(missing_ok=True)


def load(folder: str | Path) -> nn.Module:
    """Load a folder written by `save`, or any Hugging Face causal LM folder.

    Supports are drawn again from the seed and checked against their checksums.

    Raises:
        UserError: no model there, weights that do not belong to the record, or a support with another checksum.
    """
    path = Path(folder)
    if not is_unmerged(path):
        if not (path / "config.json").exists():
            raise UserError(f"{path} holds no model: neither {RECORD_FILE} nor config.json is there")
        from transformers import AutoModelForCausalLM

        plain: nn.Module = AutoModelForCausalLM.from_pretrained(path)
        return plain
    description = json.loads((path / RECORD_FILE).read_text())
    if description.get("format") != _FORMAT:
        raise UserError(f"{path} was written in format {description.get('format')}; this fallow reads format {_FORMAT}")
    model = build(description["config"], description["architecture"])
    settings = dict(description["method"])
    method = method_of(settings.pop("name"), **settings)
    convert(model, method, targets=description["targets"], seed=description["seed"], path=description["path"])
    for name, layer in reparam_layers(model).items():
        support = layer.support
        if support is not None and description["supports"].get(name) != support.digest():
            raise UserError(f"{path}: the support of {name} does not have the checksum that was saved with it")
    _read_weights(model, path / WEIGHTS_FILE)
    return model


def is_unmerged(folder: Path) -> bool:
    """Whether a folder holds a converted model."""
    return (folder / WEIGHTS_FILE).exists() and (folder / RECORD_FILE).exists()


def build(config: dict[str, Any], architecture: str = "") -> nn.Module:
    """A model with fresh weights from the values of a Hugging Face configuration; by default a causal LM.

    Raises:
        UserError: no model type, an unknown one, or a value its configuration does not have.
    """
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    from fallow.errors import unknown

    values = dict(config)
    kind = values.pop("model_type", "")
    if kind not in CONFIG_MAPPING_NAMES:
        raise unknown("model_type", kind, CONFIG_MAPPING_NAMES)
    cls = getattr(transformers, architecture, None) if architecture else transformers.AutoModelForCausalLM
    if cls is None:
        raise UserError(f"transformers {transformers.__version__} has no class {architecture}")
    dtype = values.pop("dtype", None)
    hf_config = transformers.AutoConfig.for_model(kind, **values)
    model: nn.Module = cls(hf_config) if architecture else cls.from_config(hf_config)
    if dtype is not None:
        model.to(getattr(torch, str(dtype)))
    return model


def write_json(path: Path, value: object) -> None:
    """Write JSON so that the file is whole or absent."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text so that the file is whole or absent: under another name first, then renamed."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _write_weights(model: nn.Module, path: Path) -> None:
    from safetensors.torch import save_file

    temporary = path.with_name(f".{path.name}.tmp")
    # named_parameters drops the second name of tied parameters, which the model ties again when it is built
    tensors = {name: p.detach().contiguous().cpu() for name, p in model.named_parameters()}
    persistent = model.state_dict().keys()
    tensors |= {n: b.detach().contiguous().cpu() for n, b in model.named_buffers() if n in persistent}
    save_file(tensors, temporary, metadata={"format": "pt"})
    temporary.replace(path)


def _read_weights(model: nn.Module, path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path} is damaged: {error}") from error
    parameters = dict(model.named_parameters()) | dict(model.named_buffers())
    expected = {name for name, _ in model.named_parameters()}
    for name in sorted(expected ^ (tensors.keys() & parameters.keys())) + sorted(tensors.keys() - parameters.keys()):
        where = "in the file but not in the model" if name in tensors else "in the model but not in the file"
        if name in expected or name not in parameters:
            raise UserError(f"{path} does not belong to the record beside it: {name} is {where}")
    with torch.no_grad():
        for name, tensor in tensors.items():
            if parameters[name].shape != tensor.shape:
                raise UserError(
                    f"{path} does not belong to the record beside it: {name} has shape {tuple(tensor.shape)}, "
                    f"expected {tuple(parameters[name].shape)}"
                )
            parameters[name].data = tensor.to(parameters[name].device)


def _pretrained(model: nn.Module) -> Any:
    if not hasattr(model, "config") or not hasattr(model.config, "to_dict"):
        raise UserError(f"{type(model).__name__} is not a Hugging Face model; save its state_dict() yourself")
    return model
