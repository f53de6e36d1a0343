"""The one place where the golden outputs name parts of fallow: what is renamed or rebuilt is followed here."""

import contextlib
import dataclasses
import importlib.util
import io
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

import fallow
from fallow.accounting import count_flops, measure_memory
from fallow.accounting.tables import TABLES, table
from fallow.cli.main import COMMANDS, main
from fallow.counting import count
from fallow.data.settings import PairData, TextData
from fallow.data.splits import open_data
from fallow.data.tokenizer import load_tokenizer
from fallow.errors import UserError
from fallow.linear.kernels.library import missing
from fallow.methods.base import reparam_layers
from fallow.methods.registry import registry
from fallow.metrics import score
from fallow.run.estimate import Question, estimate_recipe
from fallow.run.orchestrate import run_recipe
from fallow.run.recipe import load
from fallow.run.shipped import names as shipped_names
from fallow.shearing.groups import kept_of
from fallow.shearing.moments import cut_moments
from fallow.shearing.streaming import cut_folder
from fallow.shearing.surgery import cut
from fallow.train import Mesh
from tests.conformance import training
from tests.conformance.families import CONFIGS, ENCODERS, tiny
from tests.conformance.sheared import recipe_at, write_text
from tests.conformance.table import BESIDE, ROWS, SHEARED, Row
from tests.metrics.odd import corpus
from tests.run.tiny import write_recipe
from tests.shearing.tiny import MODELS, facts, model_of, soft_gates

ROW_TABLE: dict[str, Row] = {**ROWS, **SHEARED, **BESIDE}
FAMILIES = (*CONFIGS, *ENCODERS)
SHEARABLE = tuple(MODELS)
PROFILES = ("e2e", "webnlg2017", "webnlg2020", "dart")
CONTEXT = 12

MODEL_CONFIGS: dict[str, dict[str, Any]] = {
    "google-bert/bert-base-uncased": {"model_type": "bert"},
    "FacebookAI/roberta-large": {
        "model_type": "roberta", "num_hidden_layers": 24, "hidden_size": 1024, "intermediate_size": 4096,
        "num_attention_heads": 16, "vocab_size": 50265, "max_position_embeddings": 514,
    },
    "openai-community/gpt2-medium": {"model_type": "gpt2", "n_layer": 24, "n_embd": 1024, "n_head": 16},
    "meta-llama/Llama-2-7b-hf": {"model_type": "llama", "max_position_embeddings": 4096},
    "meta-llama/Llama-3.1-8B": {
        "model_type": "llama", "num_hidden_layers": 32, "hidden_size": 4096, "intermediate_size": 14336,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 131072,
    },
    "EleutherAI/pythia-160m": {
        "model_type": "gpt_neox", "num_hidden_layers": 12, "hidden_size": 768, "intermediate_size": 3072,
        "num_attention_heads": 12, "vocab_size": 50304, "max_position_embeddings": 2048,
    },
    "EleutherAI/pythia-410m": {
        "model_type": "gpt_neox", "num_hidden_layers": 24, "hidden_size": 1024, "intermediate_size": 4096,
        "num_attention_heads": 16, "vocab_size": 50304, "max_position_embeddings": 2048,
    },
    "minilm": {
        "model_type": "bert", "num_hidden_layers": 6, "hidden_size": 384, "intermediate_size": 1536,
        "num_attention_heads": 12,
    },
    "stories260K": {
        "model_type": "llama", "num_hidden_layers": 5, "hidden_size": 64, "intermediate_size": 172,
        "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 512, "max_position_embeddings": 512,
    },
}  # fmt: skip
"""Configurations that shipped recipes begin with: only their sizes matter here, not where they are from."""


def kernels_missing() -> str:
    """Why the compiled kernels are not there; empty when they are."""
    return missing()


def recipe_names() -> list[str]:
    """The shipped recipes."""
    return sorted(shipped_names())


def estimate(name: str, device: str, processes: int, folder: Path) -> dict[str, Any]:
    """What `fallow estimate NAME --json` prints, with models as folders below `folder`; or the message."""
    recipe = load(name)
    changes: list[tuple[str, Any]] = [("device", device)]
    for stage in recipe.stages:
        path = stage.model.path.removeprefix("hub:")
        if not path:
            continue
        at = folder / path
        at.mkdir(parents=True, exist_ok=True)
        (at / "config.json").write_text(json.dumps(MODEL_CONFIGS[path]))
        changes.append((f"stages.{stage.name}.model.path", str(at)))
    question = Question(processes=processes, epoch_tokens=dict.fromkeys(recipe.datasets, 1_000_000))
    try:
        return estimate_recipe(load(name, changes), question).to_dict()
    except UserError as error:
        return {"message": str(error).replace(str(folder), "FOLDER")}


def converted(row: Row, family: str) -> nn.Module:
    """A tiny model of the family with the row's method."""
    model = tiny(family)
    fallow.convert(model, row.method, seed=3, **row.settings)
    return model


def trained(row: Row, family: str, precision: str, folder: Path) -> tuple[nn.Module, Path]:
    """Twenty steps: the model, and the log."""
    if row.method == "shear" and family == "llama":  # which has fewer units in its MLP
        row = dataclasses.replace(row, settings={**row.settings, "to": {"hidden": 24, "inner": 48, "layers": 1}})
    before = training.build, training.LoopSettings
    try:
        training.build = lambda row: converted(row, family)
        training.LoopSettings = lambda **k: before[1](**k, precision=precision)  # type: ignore[assignment, misc]
        loop = training.loop(row, folder, Mesh())
    finally:
        training.build, training.LoopSettings = before  # type: ignore[misc]
    loop.fit()
    return loop.model, folder / "log.jsonl"


def merged(model: nn.Module) -> nn.Module:
    """Stock layers again."""
    return fallow.merge(model)


def saved(model: nn.Module, folder: Path) -> Path:
    """The weights that `fallow.save` writes."""
    fallow.save(model, folder)
    return folder / "fallow.safetensors"


def digests(model: nn.Module) -> dict[str, str]:
    """The checksum of every support."""
    return {n: layer.support.digest() for n, layer in reparam_layers(model).items() if layer.support is not None}


def numbers(model: nn.Module) -> dict[str, Any]:
    """Parameters, operations and bytes of a model."""
    counts, flops, memory = count(model), count_flops(model, CONTEXT), measure_memory(model)
    return {
        "parameters": [counts.positions, counts.stored, counts.trainable, counts.nonzero, counts.apart],
        "flops": [
            flops.forward, flops.training, flops.training_dense, flops.training_executed, flops.linear_dense,
            flops.reduction, flops.ceiling,
        ],
        "bytes": [part for one in (memory.layers, memory.rest) for part in dataclasses.astuple(one)],
    }  # fmt: skip


def sliced(family: str, shape: str, folder: Path) -> dict[str, bytes]:
    """A model cut in memory, from folder to folder, its optimizer state, and the first gates drawn."""
    model = model_of(family)
    source = facts(model)[1]
    if shape == "half":
        heads = source.heads // 2
        kv_heads = 1 if source.group > 1 else heads
        target = source.with_sizes(layers=1, hidden=16, heads=heads, kv_heads=kv_heads, inner=24)
    else:
        target = source.with_sizes(layers=1, inner=40)
    groups, gates = soft_gates(source, target)
    kept = kept_of(source, groups, gates)
    draw = torch.Generator().manual_seed(11)
    state = {name: torch.rand(p.shape, generator=draw) for name, p in model.named_parameters()}
    with torch.no_grad():
        small = cut(model, kept)
    model.save_pretrained(folder / "source")  # type: ignore[operator]
    cut_folder(folder / "source", kept, folder / "small")
    found = {"model": _bytes(small.state_dict()), "stream": (folder / "small" / "model.safetensors").read_bytes()}
    for power in (1, 2):
        found[f"state {power}"] = _bytes(cut_moments(model.config, kept, state, power))
    gated = model_of(family)
    sizes = {"layers": 1, "hidden": 16, "heads": 2, "inner": 24}
    fallow.convert(gated, "shear", to=sizes, warmup=0, seed=3, draws=3)
    with torch.no_grad():
        for log_alpha in gated.gates.log_alpha.values():  # type: ignore[union-attr, operator]
            log_alpha.copy_(torch.linspace(-4, 4, log_alpha.numel()).reshape(log_alpha.shape))
    drawn: dict[str, Tensor] = gated.gates.sample(4)  # type: ignore[union-attr, operator, assignment]
    found["gates"] = _bytes(drawn)
    return found


def tables() -> dict[str, Any]:
    """Every table of the papers."""
    return {name: table(name).to_dict() for name in TABLES}


def scores(profile: str) -> dict[str, Any]:
    """Texts with all kinds of damage, scored by a profile."""
    hypotheses, references = corpus(7, 60, empty=profile != "e2e")
    return score(profile, hypotheses, references, segments=True).to_dict()


def commands() -> dict[str, dict[str, str]]:
    """The flags of every command as its help shows them, with their defaults."""
    found = {}
    for name in COMMANDS:
        text = _help(name)
        flags: dict[str, str] = {}
        for part in re.split(r"(?=(?<![\w-])--[a-z])", text):
            flag = re.match(r"--[a-z][\w-]*", part)
            if flag:
                default = re.search(r"\(default: (.*?)\)", part)
                flags[flag[0]] = default[1] if default else flags.get(flag[0], "")
        found[name] = flags
    return found


def _help(command: str) -> str:
    out = io.StringIO()
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "300"
    try:
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            main([command, "--help"])
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
    return " ".join(re.sub("[\u2500-\u257f]", " ", out.getvalue()).split())


def public_names() -> dict[str, Any]:
    """What `fallow` exports, and every method with its fields and defaults."""
    methods = {
        name: {
            field.name: "required" if field.default is dataclasses.MISSING else repr(field.default)
            for field in dataclasses.fields(cls)
        }
        for name, cls in registry.items()
    }
    return {"all": sorted(fallow.__all__), "methods": methods}


def runs(folder: Path) -> Iterator[tuple[str, Path]]:
    """Finished runs: two stages with texts, the same with a grid, three stages that shear."""
    recipe = write_recipe(folder)
    for name, changes in (("tiny", []), ("grid", [("stages.tune.grid", {"optimizer.lr": [1e-9, 1e-2]})])):
        with _quiet():
            run_recipe(load(str(recipe), [("output", str(folder / name)), *changes]), json=True)
        yield name, folder / name
    write_text(folder)
    with _quiet():
        run_recipe(recipe_at(folder, "shear"), json=True)
    yield "shear", folder / "shear"


def fingerprints(run: Path, folder: Path) -> dict[str, str]:
    """Of the data of the run `tiny`."""
    tokenizer = load_tokenizer(str(run / "tokenizer"))
    pairs = str(folder / "pairs.jsonl")
    recipe = load(str(folder / "tiny.yaml"))
    found = {}
    for name, settings in recipe.datasets.items():
        assert isinstance(settings, TextData | PairData), pairs
        splits = open_data(settings, tokenizer, run / "data" / name, seed=recipe.seed, prepare=False)
        for key, data, _ in splits.train:
            found[f"{name}/train/{key}"] = data.fingerprint
        for key, data in splits.valid.items():
            found[f"{name}/valid/{key}"] = data.fingerprint
    return found


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _bytes(tensors: dict[str, Tensor]) -> bytes:
    return save({name: tensor.detach().contiguous().clone() for name, tensor in sorted(tensors.items())})


def weight_bytes(model: nn.Module) -> bytes:
    """All weights, by name."""
    return _bytes(dict(model.named_parameters()))


def module_exists(name: str) -> bool:
    """Whether a package can be imported."""
    return importlib.util.find_spec(name) is not None
