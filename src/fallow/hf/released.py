"""Checkpoints of SLTrain's released code: four tensors a layer and two JSON files become a converted model."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fallow.conversion import convert, match_targets
from fallow.errors import UserError
from fallow.files import read_json
from fallow.folder import build
from fallow.linear import Site, linear_sites
from fallow.methods import SLTrain
from fallow.methods.base import reparam_layers
from fallow.methods.released_draw import ReleasedDraws
from fallow.skeleton import fill, without_values
from fallow.stock import INDEX, SINGLE, weight_map
from fallow.supports import Support

SETTINGS_FILE = "splora_config.json"
_PICKLE = "pytorch_model.bin"
_NAMES = {"lora_A": "low_rank_a", "lora_B": "low_rank_b", "sparse_value": "values", "bias": "bias"}
_COMPUTED = ".rotary_emb.inv_freq"
_AGAIN = "Copy the folder again"

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Imported:
    """A released checkpoint as a model, and what had to be done to it."""

    model: nn.Module
    """Converted, in evaluation mode, in the type of the checkpoint."""

    seed: int | None
    """The seed whose draws repeat its supports, if one was asked for; they need no storage then."""

    notes: tuple[str, ...]
    """What is not as it stood in the files, a sentence each."""


@torch.no_grad()
def import_released(
    folder: str | Path,
    *,
    seed: int | None = None,
    pickle: bool = False,
    progress: Progress = lambda done, total: None,
) -> Imported:
    """Read a checkpoint that the released code of SLTrain saved.

    Each replaced layer has `lora_A` (rank, d_in), `lora_B` (d_out, rank), `sparse_value` (nnz,) and `sparse_index`
    (nnz,), 8 bytes an entry; they become the terms of one layer of method sltrain, W = (alpha / rank) B A + S, and the
    indices a support of 2 bytes an entry. Other tensors keep their names. A trained scale (tanh(s) in place of
    alpha / rank) is multiplied into B. The result has the same outputs; `fallow.merge` or `fallow.hf.export.export`
    makes a stock model of it.

    Args:
        folder: with `splora_config.json`, `config.json` and the weights.
        seed: parity: the supports must be those that the released layers draw after `torch.manual_seed(seed)` on a CPU.
            The model is then one of `preset: released`, whose supports follow from the seed.
        pickle: read `pytorch_model.bin` where there is no `model.safetensors`, by torch's reader for weights alone. For
            files that you trust.
        progress: is told how many layers are read, of how many.

    Raises:
        UserError: what is missing, damaged, of another form, or not drawn from this seed.
    """
    path = Path(folder)
    settings, config, notes = _settings(path), *_config(path)
    tensors, whence = _tensors(path, pickle)
    names = [key.removesuffix(".sparse_index") for key in tensors if key.endswith(".sparse_index")]
    if not names:
        raise UserError(f"{whence} holds no sparse_index: it is no checkpoint of SLTrain's layers")
    with torch.random.fork_rng(devices=[]), without_values():
        model = _built(config, path)
    sites = {name: site for name, site in linear_sites(model).items() if name in set(names)}
    if lost := sorted(set(names) - set(sites)):
        raise UserError(
            f"{whence} has {lost[0]}.sparse_index, but the model of {path / 'config.json'} has no such layer"
        )
    supports: dict[str, Support] = {}
    weights: dict[str, Tensor] = {}
    for number, (name, site) in enumerate(sites.items()):
        supports[name], own = _layer(tensors, site, settings, whence)
        weights |= own
        progress(number + 1, len(sites))
    for key in tensors:
        if key.rpartition(".")[0] not in sites and not key.endswith(_COMPUTED):
            weights[key] = tensors[key]
    if seed is not None:
        _check_draws(sites, supports, settings, seed)
    scaled = [name for name in sites if f"{name}.scaling" in tensors]
    if scaled:
        notes.append(f"the trained scale of {len(scaled)} layers was multiplied into their B")
    method = SLTrain(
        rank=settings["r"],
        density=settings["sp_ratio"],
        alpha=float(settings["lora_alpha"]),
        support="given" if seed is None else "uniform",
        preset="paper" if seed is None else "released",
    )
    convert(model, method, targets=_targets(model, list(sites)), seed=seed or 0, supports=supports)
    for name, layer in reparam_layers(model).items():
        layer.set_support(supports[name], torch.device("cpu"))
    _check_names(model, weights, whence)
    fill(model, weights)
    for layer in reparam_layers(model).values():
        layer.use("")  # the path that suits this device; the layers were made without one
    return Imported(model.eval(), seed, tuple(notes))


def _settings(path: Path) -> dict[str, Any]:
    file = path / SETTINGS_FILE
    if not file.is_file():
        raise UserError(f"{path} holds no {SETTINGS_FILE}, so it was not saved by the released code of SLTrain")
    settings = read_json(file, _AGAIN)
    for key, kinds in (("r", (int,)), ("lora_alpha", (int, float)), ("sp_ratio", (int, float))):
        value = settings.get(key)
        if not isinstance(value, kinds) or isinstance(value, bool) or value <= 0:
            raise UserError(f"{file} is damaged: {key} is {value!r}, but it must be a number above 0. {_AGAIN}")
    if settings["sp_ratio"] >= 1:
        raise UserError(f"{file} is damaged: sp_ratio is {settings['sp_ratio']}, but it must be below 1. {_AGAIN}")
    return settings


def _config(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The configuration without what the released files get wrong, and what that was."""
    config, notes = read_json(path / "config.json", _AGAIN), []
    length = config.pop("max_sequence_length", None)
    if length is not None and config.get("max_position_embeddings") != length:
        config["max_position_embeddings"] = length
        notes.append(f"max_sequence_length, which transformers does not know, is max_position_embeddings: {length} now")
    if config.get("pad_token_id") == -1:
        config["pad_token_id"] = None
        last = config.get("vocab_size", 0) - 1
        notes.append(
            f"pad_token_id was -1, so that token {last} stood for padding and was not trained; there is none now"
        )
    return config, notes


def _built(config: dict[str, Any], path: Path) -> nn.Module:
    architecture = next(iter(config.get("architectures") or []), "")
    try:
        return build(config, str(architecture))
    except UserError as error:
        raise UserError(f"{path / 'config.json'}: {error}") from None
    except Exception as error:  # transformers raises many kinds
        raise UserError(f"{path / 'config.json'} is refused by transformers: {error}") from error


class _Tensors(Mapping[str, Tensor]):
    """The tensors of safetensors files, each read when it is asked for."""

    def __init__(self, files: list[Path]) -> None:
        from safetensors import safe_open

        self._opened: list[Any] = [safe_open(file, framework="pt") for file in files]
        self._places = {key: opened for opened in self._opened for key in opened.keys()}  # noqa: SIM118 - no mapping

    def __getitem__(self, key: str) -> Tensor:
        tensor: Tensor = self._places[key].get_tensor(key)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _tensors(path: Path, pickle: bool) -> tuple[Mapping[str, Tensor], Path]:
    """All tensors by name, and the file to name in messages."""
    from safetensors import SafetensorError

    single, index, pickled = path / SINGLE, path / INDEX, path / _PICKLE
    try:
        if index.is_file():
            return _Tensors(sorted(set(weight_map(path).values()))), index
        if single.is_file():
            return _Tensors([single]), single
    except SafetensorError as error:
        raise UserError(f"{path} is damaged: {error}. {_AGAIN}") from None
    if not pickled.is_file():
        raise UserError(f"{path} holds no weights: neither {single.name} nor {_PICKLE} is there")
    if not pickle:
        raise UserError(
            f"{path} has its weights in {_PICKLE} alone. A pickle can run code when it is opened. If you trust it, "
            "allow it (--pickle)"
        )
    try:
        found = torch.load(pickled, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises many kinds for damaged files and for those with more than tensors
        raise UserError(f"{pickled} is damaged, or holds more than tensors. Save the weights alone") from error
    return dict(found), pickled


def _layer(
    tensors: Mapping[str, Tensor], site: Site, settings: dict[str, Any], whence: Path
) -> tuple[Support, dict[str, Tensor]]:
    """Support and parameters of one layer."""
    (d_out, d_in), rank = site.shape, settings["r"]
    name, parts = site.name, dict[str, Tensor]()
    sizes: dict[str, tuple[int, ...]] = {"lora_A": (rank, d_in), "lora_B": (d_out, rank)}
    index = tensors[f"{name}.sparse_index"]
    num = int(settings["sp_ratio"] * d_out * d_in)
    sizes |= {"sparse_index": (num,), "sparse_value": (num,)}
    for leaf, size in sizes.items():
        tensor = tensors.get(f"{name}.{leaf}")
        if tensor is None or tuple(tensor.shape) != size:
            found = "not there" if tensor is None else f"of shape {tuple(tensor.shape)}"
            raise UserError(
                f"{whence} and {SETTINGS_FILE} do not belong together: {name}.{leaf} is {found}, expected {size}"
            )
    for leaf, own in _NAMES.items():
        if f"{name}.{leaf}" in tensors:
            parts[f"{name}.{own}"] = tensors[f"{name}.{leaf}"]
    try:
        support = Support.from_positions(site.shape, index)
    except ValueError as error:
        raise UserError(f"{whence} is damaged: in {name}.sparse_index {error}. {_AGAIN}") from None
    order = index.to(torch.int64).argsort()
    parts[f"{name}.values"] = parts[f"{name}.values"][order].contiguous()
    scaling = tensors.get(f"{name}.scaling")
    if scaling is not None:
        b_or = parts[f"{name}.low_rank_b"]
        factor = math.tanh(float(scaling)) * rank / settings["lora_alpha"]
        parts[f"{name}.low_rank_b"] = (b_or.float() * factor).to(b_or.dtype)
    return support, parts


def _check_draws(
    sites: Mapping[str, Site], supports: Mapping[str, Support], settings: dict[str, Any], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    draws = ReleasedDraws(sites, settings["r"], settings["sp_ratio"], generator)
    for number, name in enumerate(sites):
        if not torch.equal(draws.layer(number).positions_n, supports[name].flat()):
            raise UserError(
                f"seed {seed} does not repeat the support of {name}. The released script draws dense weights first, "
                "and a GPU draws other numbers. Leave the seed out: supports are kept with the weights then"
            )


def _targets(model: nn.Module, names: list[str]) -> tuple[str, ...]:
    """None where they are the default ones."""
    usual = match_targets(model, linear_sites(model), ())
    return () if list(usual) == names else tuple(names)


def _check_names(model: nn.Module, weights: Mapping[str, Tensor], whence: Path) -> None:
    expected = dict(model.named_parameters())
    tied = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    if missing := sorted(expected.keys() - weights.keys()):
        raise UserError(f"{whence} holds no {missing[0]}, which the model of config.json has")
    for name, tensor in weights.items():
        if name not in tied:
            raise UserError(f"{whence} holds {name}, which the model of config.json does not have")
        if name in expected and expected[name].shape != tensor.shape:
            raise UserError(
                f"{whence} does not fit config.json: {name} has shape {tuple(tensor.shape)}, expected "
                f"{tuple(expected[name].shape)}"
            )
