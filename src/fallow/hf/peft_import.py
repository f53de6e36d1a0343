"""A LoRA of PEFT as the starting point of ours."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fallow.conversion import convert, match_targets
from fallow.errors import UserError
from fallow.files import read_json
from fallow.hf.peft_export import BASE_KEY, CONFIG_FILE, PREFIX, WEIGHTS_FILE, fingerprint
from fallow.linear import linear_sites
from fallow.linear.inputs import dense_weight
from fallow.methods import LoRA, Method
from fallow.methods.base import reparam_layers
from fallow.random import Key

_PLAIN = {"use_dora": False, "bias": "none", "use_qalora": False, "lora_bias": False}
"""Settings of PEFT's LoRA that change what it computes, and the value that ours can take over."""


def from_peft(
    model: nn.Module, folder: str | Path, *, method: Method | None = None, seed: int = 0, renamed: bool = False
) -> Method:
    """Convert a stock model by LoRA or DSEE, with the factors of a PEFT LoRA; returns the method.

    The model has to be the one that the adapter was trained on. Adapters that fallow wrote know it by a checksum of its
    weights; of others the name that PEFT has noted is compared with the name that the model was loaded by.

    Args:
        model: the base that the adapter was trained on, stock; changed in place.
        folder: of `PeftModel.save_pretrained`, with safetensors.
        method: `LoRA` or `DSEE` of the adapter's rank, which decides dropout, entries and what is trained. By default a
            LoRA of the adapter's own rank and scale.
        seed: names what is drawn, such as the entries of DSEE.
        renamed: take the model for the adapter's base although it has another name, such as a copy in another folder.

    Raises:
        UserError: no LoRA in that folder, one of another base (by layers and shapes, and by a checksum or by name), one
            with settings that ours does not have, or another rank, scale or set of layers than the method's.

    >>> from tempfile import TemporaryDirectory
    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> from fallow.hf.peft_export import base_model, to_peft
    >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=32, vocab_size=50))
    >>> report = convert(model, "lora", rank=2)
    >>> with TemporaryDirectory() as folder:
    ...     num = to_peft(model, folder)
    ...     from_peft(base_model(model), folder).rank
    4
    """
    path = Path(folder)
    config = _config(path)
    tensors, base = _tensors(path / WEIGHTS_FILE)
    pairs = _pairs(tensors, path)
    _check_base(model, pairs, path, base)
    if not base and not renamed:
        _check_name(model, str(config.get("base_model_name_or_path") or ""), path)
    rank, alpha = _rank_and_alpha(config, pairs, path)
    if method is None:
        method = LoRA(rank=rank, alpha=alpha, modules=(), dropout=float(config.get("lora_dropout") or 0.0))
    targets = sorted(pairs)
    _check_method(model, method, targets, rank, alpha, path)
    convert(model, method, targets=targets, seed=seed, pretrained=True)
    layers = reparam_layers(model)
    with torch.no_grad():
        for name, (a_ri, b_or) in pairs.items():
            factor_a, factor_b = layers[name].low_rank_a, layers[name].low_rank_b
            assert factor_a is not None
            assert factor_b is not None
            factor_a.copy_(a_ri)
            factor_b.copy_(b_or)
        for key, tensor in tensors.items():
            if ".lora_" not in key:
                model.get_parameter(key.removeprefix(PREFIX)).copy_(tensor)
    return method


def _config(path: Path) -> dict[str, Any]:
    if not (path / CONFIG_FILE).is_file():
        raise UserError(f"{path} holds no adapter of PEFT ({CONFIG_FILE} is missing)")
    config = read_json(path / CONFIG_FILE, "Save the adapter again")
    kind = config.get("peft_type")
    if kind != "LORA":
        raise UserError(f"{path} holds an adapter of type {kind}, but only LORA can be taken over")
    for key, value in _PLAIN.items():
        if config.get(key, value) not in (value, None):
            raise UserError(
                f"{path}: {key} is {config[key]}, which has no counterpart here. Save the adapter without it"
            )
    if config.get("rank_pattern") or config.get("alpha_pattern"):
        raise UserError(f"{path}: ranks or alphas differ from layer to layer, but a method has one of each")
    return config


def _tensors(path: Path) -> tuple[dict[str, Tensor], str]:
    """The tensors, and the checksum of their base where fallow wrote them."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise UserError(f"{path} is missing. Save the adapter with safetensors; files of pickle are not read")
    try:
        with safe_open(path, framework="pt") as file:
            known = (file.metadata() or {}).get(BASE_KEY, "")
            return {name: file.get_tensor(name) for name in file.keys()}, known  # noqa: SIM118 - it is no mapping
    except SafetensorError as error:
        raise UserError(f"{path} is damaged: {error}") from error


def _pairs(tensors: dict[str, Tensor], path: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """A (rank, d_in) and B (d_out, rank) by name of layer."""
    endings = (".lora_A.weight", ".lora_B.weight")
    names = {key.removeprefix(PREFIX).removesuffix(endings[0]) for key in tensors if key.endswith(endings[0])}
    found = {}
    for name in names:
        a, b = (tensors.get(f"{PREFIX}{name}{ending}") for ending in endings)
        if a is None or b is None:
            raise UserError(f"{path / WEIGHTS_FILE} is damaged: {name} has only one of its factors")
        found[name] = (a, b)
    if not found:
        raise UserError(f"{path / WEIGHTS_FILE} holds no factors of linear layers")
    return found


def _check_base(model: nn.Module, pairs: dict[str, tuple[Tensor, Tensor]], path: Path, known: str) -> None:
    sites = linear_sites(model)
    for name, (a_ri, b_or) in sorted(pairs.items()):
        if name not in sites:
            raise UserError(
                f"{path} was made for another base: it adapts {name}, which this {type(model).__name__} does not have"
            )
        shape = (b_or.shape[0], a_ri.shape[1])
        if shape != sites[name].shape:
            raise UserError(
                f"{path} was made for another base: {name} is {shape[0]} x {shape[1]} there, and "
                f"{sites[name].shape[0]} x {sites[name].shape[1]} here"
            )
    if known and fingerprint({name: dense_weight(model.get_submodule(name)) for name in pairs}) != known:
        raise UserError(
            f"{path} was made for another base: the weights of its layers have another checksum. Give the model that "
            "was tuned (pruned, if it was)"
        )


def _check_name(model: Any, there: str, path: Path) -> None:
    """Whether the name of the base that PEFT noted is that of the model, where both are known."""
    here = str(getattr(model, "name_or_path", "") or "")
    if not there or not here or _same_place(there, here):
        return
    raise UserError(
        f"{path} was made for the base {there}, and this model is {here}. Give that base; or, if this is the same "
        "model under another name, write --renamed (in Python: renamed=True)"
    )


def _same_place(there: str, here: str) -> bool:
    """One folder, or a name on the Hub and a copy of it that is called the same."""
    if Path(there).exists() and Path(here).exists():
        return Path(there).resolve() == Path(here).resolve()
    owner, _, name = there.rpartition("/")
    return there == here or ("/" not in owner and not Path(there).is_absolute() and name == Path(here).name)


def _rank_and_alpha(config: dict[str, Any], pairs: dict[str, tuple[Tensor, Tensor]], path: Path) -> tuple[int, float]:
    ranks = {a.shape[0] for a, _ in pairs.values()}
    if len(ranks) > 1:
        raise UserError(f"{path}: ranks differ from layer to layer ({sorted(ranks)}), but a method has one")
    rank, alpha = ranks.pop(), float(config.get("lora_alpha", 8))
    return rank, alpha * math.sqrt(rank) if config.get("use_rslora") else alpha


def _check_method(
    model: nn.Module, method: Method, targets: Sequence[str], rank: int, alpha: float, path: Path
) -> None:
    given = {key: getattr(method, key, None) for key in ("rank", "alpha")}
    for key, there in (("rank", rank), ("alpha", alpha)):
        value = given[key]
        if value is None or abs(float(value) - there) > 1e-9:
            raise UserError(
                f"method.{key} is {given[key]}, but the adapter in {path} has {there:g}. Write {key}: {there:g}"
            )
    sites = match_targets(model, linear_sites(model), targets)
    plan = method.plan(sites, Key(0))
    if left := sorted(sites.keys() - plan.keys()):
        raise UserError(f"the adapter in {path} covers {left[0]}, which modules leaves out. Write modules: []")
    for name, terms in plan.items():
        if terms.low_rank is None or terms.low_rank.rows:
            raise UserError(
                f"the adapter in {path} covers all rows of {name}, keys as well, but the method adapts a part of them. "
                "Write modules: []"
            )
