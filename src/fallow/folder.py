"""A converted model on disk: safetensors and JSON, and nothing that a plain loader could take for a whole model."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fallow.conversion import RECORD, Record, convert
from fallow.errors import UserError, first_line
from fallow.files import file_sha256, fill_folder, read_json, unsealed, write_json, write_sealed
from fallow.integrity import check_model
from fallow.linear import Chosen, linear_sites
from fallow.linear.cut import HEADS
from fallow.methods import method_of
from fallow.methods.base import reparam_layers
from fallow.methods.registry import method_to_dict
from fallow.plausible import check_sizes
from fallow.pruning.heads import cut_heads
from fallow.shortages import refuse_shortage
from fallow.skeleton import few_tensors, fill, without_values
from fallow.stock import check_stored, config_from, new_model, read_generation_config, read_model
from fallow.supports import Support

RECORD_FILE = "fallow.json"
WEIGHTS_FILE = "fallow.safetensors"
STOCK_FILES = ("model*.safetensors", "model*.index.json", "pytorch_model*.bin", "pytorch_model*.index.json")
"""Patterns of the files in which transformers keeps weights."""
_FORMAT = 1
_PLACE = "_name_or_path"  # of the configuration: where it was loaded from, which says nothing of the model
_POSITIONS = ".positions"
_REFUSAL = "this folder holds a fallow model that is not merged"
_NOTICE = f"{_REFUSAL}. Load it with fallow.load(folder), or write: fallow merge FOLDER --output MERGED"
_CUT = "this folder holds a model with heads cut out, which its configuration cannot say"
_NOTICE_OF_HEADS = f"{_CUT}. Load it with fallow.load(folder)"
_DAMAGED = "Save the model again, or restore the folder from a copy"


def save(model: nn.Module, folder: str | Path, *, state_dict: Mapping[str, torch.Tensor] | None = None) -> None:
    """Write a model, converted or not, so that `load` gives it back bit for bit.

    A model that is not converted is saved by its own `save_pretrained`. A converted one becomes `fallow.json` (method,
    seed, configuration, a checksum of the weights and of every support) and `fallow.safetensors` (the parameters that
    exist: values, factors, biases and so on; indices only of supports that were chosen from a weight, since others
    follow from seed and layer names), beside a `config.json` whose model type makes transformers stop with directions
    instead of loading random weights.

    Args:
        model: a Hugging Face model.
        folder: made when it is not there; an older model in it is replaced.
        state_dict: tensors to write in place of the model's own, as a trainer gathers them from several processes.

    Raises:
        UserError: not a Hugging Face model, no values to save, or no room for them.
    """
    path = Path(folder)
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file, but a model needs a folder")
    record: Record | None = getattr(model, RECORD, None)
    if record is None and getattr(model, HEADS, None) is not None:
        record = Record(method_of("dense"), (), 0, "")  # a merged model that no configuration can describe
    stock = _pretrained(model)
    with fill_folder(path, last=(RECORD_FILE, "config.json"), stale=(*STOCK_FILES, WEIGHTS_FILE)) as temporary:
        if record is None:
            stock.save_pretrained(temporary, state_dict=None if state_dict is None else dict(state_dict))
        else:
            _save_converted(stock, record, _tensors(model, state_dict), temporary)


def _save_converted(model: Any, record: Record, tensors: dict[str, torch.Tensor], path: Path) -> None:
    description = {
        "format": _FORMAT,
        "architecture": type(model).__name__,
        "config": {key: value for key, value in model.config.to_dict().items() if key != _PLACE},
        "method": method_to_dict(record.method),
        "targets": list(record.targets),
        "seed": record.seed,
        "path": record.path,
        "heads": getattr(model, HEADS, {}),
        "supports": {n: s.digest() for n, layer in reparam_layers(model).items() if (s := layer.support) is not None},
    }
    tensors = {**tensors, **chosen_positions(model)}
    from safetensors.torch import save_file

    save_file(tensors, path / WEIGHTS_FILE, metadata={"format": "pt"})
    write_sealed(path / RECORD_FILE, {**description, "weights": file_sha256(path / WEIGHTS_FILE)})
    notice = _NOTICE if getattr(model, RECORD, None) is not None else _NOTICE_OF_HEADS
    write_json(path / "config.json", {"model_type": notice, "architectures": [type(model).__name__]})
    if model.can_generate():
        model.generation_config.save_pretrained(path)


def load(folder: str | Path) -> nn.Module:
    """Load a folder written by `save`, or any Hugging Face folder, in evaluation mode.

    Supports are drawn again from the seed, or read where they were chosen from a weight, and checked against their
    checksums, as the weights are. Dense weights are never built: loading takes the memory of what is stored. A plain
    folder is loaded as the class that its configuration names, and must hold every weight of it: none is left to
    chance.

    Raises:
        UserError: no model there, weights that are damaged, missing or do not belong to the record, or a support with
            another checksum.
    """
    path = Path(folder)
    check_model(path)
    if not is_unmerged(path):
        if not (path / "config.json").exists():
            raise UserError(f"{path} holds no model: neither {RECORD_FILE} nor config.json is there")
        return _load_plain(path)
    description = read_json(path / RECORD_FILE, _DAMAGED)
    if description.get("format") != _FORMAT:
        raise UserError(f"{path} was written in format {description.get('format')}; this fallow reads format {_FORMAT}")
    description = unsealed(path / RECORD_FILE, description, f"{_DAMAGED}. To use it as it is, remove its sha256")
    if not (path / WEIGHTS_FILE).exists():
        raise UserError(f"{path / WEIGHTS_FILE} is missing. {_DAMAGED}")
    if description.get("weights") != file_sha256(path / WEIGHTS_FILE):
        raise UserError(f"{path / WEIGHTS_FILE} is damaged: it does not have the checksum in {RECORD_FILE}. {_DAMAGED}")
    try:
        with torch.random.fork_rng(devices=[]), without_values():
            model = build(description["config"], description["architecture"])
        if description.get("heads"):
            cut_heads(model, description["heads"])
        settings = dict(description["method"])
        method = method_of(settings.pop("name"), **settings)
        kept = _kept_supports(model, path / WEIGHTS_FILE)
        convert(
            model,
            method,
            targets=description["targets"],
            seed=description["seed"],
            path=description["path"],
            supports=kept,
        )
        supports = dict(description["supports"])
    except UserError as error:
        raise UserError(f"{path / RECORD_FILE}: {error}") from None
    except Exception as error:  # transformers raises many kinds for a configuration that makes no sense
        raise UserError(f"{path / RECORD_FILE} is damaged ({type(error).__name__}: {error}). {_DAMAGED}") from error
    for name, layer in reparam_layers(model).items():
        layer.draw_support("cpu")
        support = layer.support
        if support is not None and supports.get(name) != support.digest():
            raise UserError(f"{path}: the support of {name} does not have the checksum that was saved with it")
    _read_weights(model, path / WEIGHTS_FILE)
    _refuse_nonfinite(model, path)
    _read_generation_config(model, path)
    return model.eval()


def _load_plain(path: Path) -> nn.Module:
    import transformers

    description = read_json(path / "config.json", _DAMAGED)
    if str(description.get("model_type", "")).startswith((_REFUSAL, _CUT)):
        raise UserError(f"{path / RECORD_FILE} is missing, without which {WEIGHTS_FILE} means nothing. {_DAMAGED}")
    named = next(iter(description.get("architectures") or []), "")
    return load_stock(str(path), _model_class(str(named)) or transformers.AutoModelForCausalLM)


def load_stock(source: str, cls: Any) -> nn.Module:
    """A Hugging Face model from a folder or the Hub, as `cls`, with every weight from there.

    Raises:
        UserError: it cannot be loaded, or some of its weights would be random.
    """
    check_model(source)
    try:
        with refuse_shortage(Path(source), "reading"):
            model, found = read_model(cls, source)
    except UserError:
        raise
    except Exception as error:  # transformers and safetensors raise many kinds for damaged folders
        raise UserError(f"{source} holds a model that cannot be loaded: {first_line(error)}") from error
    if missing := sorted(found["missing_keys"]):
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(
            f"{source} does not hold all weights of a {type(model).__name__}: {missing[0]}{more} would be random"
        )
    check_stored(model, Path(source))
    _refuse_nonfinite(model, source)
    loaded: nn.Module = model
    return loaded


def _refuse_nonfinite(model: nn.Module, source: object) -> None:
    """Weights that are no numbers give texts and losses that mean nothing."""
    for name, parameter in model.named_parameters():
        if not bool(parameter.isfinite().all()):
            raise UserError(
                f"{source}: {name} holds values that are not finite numbers (NaN or infinity): the model is damaged, "
                "or its training failed. Use another one"
            )


def is_unmerged(folder: Path) -> bool:
    """Whether a folder holds a converted model; one that a merged model was saved over is a plain one."""
    if not (folder / RECORD_FILE).exists():
        return False
    try:
        text = (folder / "config.json").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return True
    return _REFUSAL in text or _CUT in text


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
    cls = _model_class(architecture) if architecture else None
    if not architecture and kind not in _with_language_models():
        raise UserError(
            f"model_type is {kind}, of which transformers has no causal language model. Use a decoder such as gpt2 "
            "or llama"
        )
    if cls is None and architecture:
        raise UserError(f"transformers {transformers.__version__} has no class {architecture}")
    check_sizes(values)
    dtype = values.pop("dtype", None)
    if dtype is not None and not isinstance(getattr(torch, str(dtype), None), torch.dtype):
        raise UserError(f"dtype is {dtype}, but it must be one of torch's, such as float32 or bfloat16")
    hf_config = config_from({"model_type": kind, **values})
    with few_tensors():
        model: nn.Module = new_model(hf_config, cls)
    if dtype is not None:
        model.to(getattr(torch, str(dtype)))
    return model


def _with_language_models() -> Collection[str]:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    names: Collection[str] = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    return names


def check_config(config: Mapping[str, Any]) -> None:
    """Refuse what the configuration of a model type does not know; transformers would take it and pay no heed.

    Raises:
        UserError: no such model type or value; names the nearest one.
    """
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    from fallow.errors import unknown

    kind = str(config.get("model_type", ""))
    if kind not in CONFIG_MAPPING_NAMES:
        raise unknown("model_type", kind, CONFIG_MAPPING_NAMES)
    default = AutoConfig.for_model(kind)
    known = {"model_type", *default.to_dict(), *default.attribute_map, *(n for n in dir(default) if n[0] != "_")}
    for key in config:
        if key not in known:
            raise unknown("value", key, default.to_dict())


def _model_class(name: str) -> Any:
    """A model class of transformers, and nothing else of it that a file might name."""
    import transformers

    found = getattr(transformers, name, None)
    return found if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel) else None


def _tensors(model: nn.Module, state_dict: Mapping[str, torch.Tensor] | None) -> dict[str, torch.Tensor]:
    """Parameters and persistent buffers by name; tied ones once, the model ties them again when it is built."""
    persistent = model.state_dict().keys()
    own = dict(model.named_parameters()) | {n: b for n, b in model.named_buffers() if n in persistent}
    tensors = {}
    for name, tensor in own.items():
        if state_dict is not None and name not in state_dict:
            raise UserError(
                f"state_dict has no {name}, which the model has. Leave state_dict out to save the model's own"
            )
        tensor = tensor if state_dict is None else state_dict[name]
        if tensor.is_meta:
            raise UserError(f"{name} is on the meta device: the model has no values to save")
        tensors[name] = tensor.detach().contiguous().cpu()
    return tensors


def chosen_positions(model: nn.Module) -> dict[str, torch.Tensor]:
    """Positions of the entries whose support was chosen from a weight, by `<layer>.positions`; others can be drawn."""
    return {
        f"{name}{_POSITIONS}": support.flat().cpu().to(torch.int32 if support.num_positions < 2**31 else torch.int64)
        for name, layer in reparam_layers(model).items()
        if isinstance(layer.terms.sparse, Chosen) and (support := layer.support) is not None
    }


def read_supports(path: Path, shapes: Mapping[str, tuple[int, int]]) -> dict[str, Support]:
    """The chosen supports in a safetensors file that `chosen_positions` went into.

    Args:
        path: the file.
        shapes: (d_out, d_in) of the layers by name.

    Raises:
        UserError: the file is damaged, or its positions do not fit the shapes.
    """
    from safetensors import SafetensorError, safe_open

    found = {}
    try:
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - it is no mapping
                name = key.removesuffix(_POSITIONS)
                if name != key and name in shapes:
                    found[name] = Support.from_positions(shapes[name], file.get_tensor(key))
    except (SafetensorError, ValueError) as error:
        raise UserError(f"{path} is damaged: {error}") from error
    return found


def _kept_supports(model: nn.Module, path: Path) -> dict[str, Support]:
    return read_supports(path, {name: site.shape for name, site in linear_sites(model).items()})


def _read_weights(model: nn.Module, path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = {key: tensor for key, tensor in load_file(path).items() if not key.endswith(_POSITIONS)}
    except SafetensorError as error:
        raise UserError(f"{path} is damaged: {error}") from error
    parameters = dict(model.named_parameters()) | dict(model.named_buffers())
    expected = {name for name, _ in model.named_parameters()}
    for name in sorted(expected ^ (tensors.keys() & parameters.keys())) + sorted(tensors.keys() - parameters.keys()):
        where = "in the file but not in the model" if name in tensors else "in the model but not in the file"
        if name in expected or name not in parameters:
            raise UserError(f"{path} does not belong to the record beside it: {name} is {where}")
    for name, tensor in tensors.items():
        if parameters[name].shape != tensor.shape:
            raise UserError(
                f"{path} does not belong to the record beside it: {name} has shape {tuple(tensor.shape)}, "
                f"expected {tuple(parameters[name].shape)}"
            )
    fill(model, tensors)


def _pretrained(model: nn.Module) -> Any:
    if not hasattr(model, "config") or not hasattr(model.config, "to_dict"):
        raise UserError(f"{type(model).__name__} is not a Hugging Face model; save its state_dict() yourself")
    return model


def _read_generation_config(model: Any, path: Path) -> None:
    if (path / "generation_config.json").exists() and model.can_generate():
        model.generation_config = read_generation_config(path)
