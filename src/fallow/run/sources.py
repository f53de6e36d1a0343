"""The model that a stage begins with."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fallow import integrity
from fallow.conversion import RECORD as CONVERTED
from fallow.conversion import ConversionReport, adopt, convert, filling, planned
from fallow.data.tokenizer import tokenizer_fingerprint
from fallow.errors import UserError, in_a_line
from fallow.folder import check_config, is_unmerged, load
from fallow.integrity import MODEL_RECORD
from fallow.methods.base import AttachesModules, SelectsSupports
from fallow.methods.dense import Dense
from fallow.methods.registry import method_to_dict
from fallow.methods.sparse import wake
from fallow.plausible import check_forward, check_ids, quiet
from fallow.pruning import Heads, Weights, prune
from fallow.pruning.heads import check_heads
from fallow.pruning.matrices import in_blocks, matrices
from fallow.run.configs import begins_with, leaves, read_config
from fallow.run.cutting import Reshape
from fallow.run.heads import Head, VocabularyHead
from fallow.run.stage import ModelSource, Stage
from fallow.supports.file import load_supports
from fallow.train.optimizers.groups import projected_names

PRUNED = "fallow_pruned"
"""Attribute of a model that the stage has pruned: what was left of it."""

_AGAIN = "Delete the folder of that stage, and the same command trains it again."


Gradients = Callable[[nn.Module, Collection[str]], Mapping[str, torch.Tensor]]
"""(model, names of layers) -> mean squared gradients of their weights on the stage's data."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Where the parts of a stage's first model lie."""

    model: Path | None = None
    """Model folder of the earlier stage that it begins with, if it does."""

    unmerged: Path | None = None
    """The same with its terms apart, where that stage kept them."""

    supports: Path | None = None
    """File of the supports that this stage has chosen before."""

    gradients: Gradients | None = None
    """For methods that choose supports by them."""

    reshape: Reshape | None = None
    """Cuts the source's model, if the stage asks for it."""


def initial_model(stage: Stage, origin: Origin, tokenizer: Any, head: Head) -> nn.Module:
    """The model of a stage, pruned where it says so and converted by its method, before the first step.

    The same weights on every process: what is new comes from the stage's seed alone. A stage whose method has the terms
    of the stage before goes on with them, as they were trained; any other begins with the merged model.

    Args:
        stage: says where from and how.
        origin: where what it begins with lies.
        tokenizer: for the vocabulary of a new model, and to check an existing one.
        head: what stands on the blocks, by the kind of data.

    Raises:
        UserError: no model there, the wrong tokenizer for it, targets that match nothing, a support that would throw
            away trained weights, or nothing to prune by.
    """
    path = origin.model or (Path(stage.model.path) if stage.model.path else None)
    before = read_record(path) if path is not None else {}
    kept = _with_terms(stage, path, origin, head)
    source = str(origin.model or stage.model.path)  # not of a Path, which would change hub:owner/name
    if kept is not None:
        _check_vocabulary(kept, tokenizer, stage, before)
        head.check(kept, f"stage {stage.name}: {source}")
        return kept
    if path is None:
        model, source = _new(stage, tokenizer, head), "model.config"
    else:
        model = _loaded(source, head, stage.seed, again=origin.model is not None)
    _check_vocabulary(model, tokenizer, stage, before)
    head.check(model, f"stage {stage.name}: {source}")
    head.adapt(model, tokenizer)
    if origin.reshape is not None:
        model = origin.reshape(model)
    if stage.prune is not None:
        _prune(model, stage)
    if stage.method.name == "dense" and before.get("revive", "zeros") != "zeros":
        wake(model, before.get("layers", []), before["revive"], stage.seed)
    supports = load_supports(origin.supports) if origin.supports is not None and origin.supports.exists() else None
    fisher = None
    if _needs_gradients(stage) and supports is None and origin.gradients is not None:
        fisher = origin.gradients(model, planned(model, stage.method, targets=stage.targets))
    try:
        report = convert(
            model,
            stage.method,
            targets=stage.targets,
            seed=stage.seed,
            pretrained=path is not None,
            supports=supports,
            fisher=fisher,
        )
    except UserError as error:
        raise UserError(f"stage {stage.name}: {error}") from None
    if before.get("layers"):
        _refuse_lost_weights(report, before, stage)
    if isinstance(stage.prune, Weights):
        _refuse_waking(model, stage)
    return model


def _needs_gradients(stage: Stage) -> bool:
    return isinstance(stage.method, SelectsSupports) and stage.method.needs_gradients


def _with_terms(stage: Stage, path: Path | None, origin: Origin, head: Head) -> nn.Module | None:
    """The unmerged model that a stage goes on with, pruned where it says so; None where it begins anew.

    Raises:
        UserError: it would have to be merged, and that would fill its zeros.
    """
    apart = origin.unmerged or (path if path is not None and is_unmerged(path) else None)
    if apart is None or stage.model.cut is not None:
        return None
    model = load(apart).float()
    if getattr(model, CONVERTED, None) is None:
        return None  # merged, in a folder of ours because no configuration describes it
    zeros = filling(model).zeros
    if stage.prune is not None and head.fits(model):
        _prune(model, stage)
    if head.fits(model) and adopt(model, stage.method, targets=stage.targets, seed=stage.seed):
        return model
    if zeros or stage.prune is not None:
        why = (
            "pruned weights would be filled" if zeros else "it would be pruned by an update that is then merged into it"
        )
        raise UserError(
            f"stage {stage.name} cannot go on with the update of {stage.model}, since its method has other terms, and "
            f"beginning anew it would merge that update first: {why}. Give it the method and targets of that stage "
            f"({method_to_dict(getattr(model, CONVERTED).method)})"
        )
    return None


def _prune(model: nn.Module, stage: Stage) -> None:
    assert stage.prune is not None
    try:
        report = prune(model, stage.prune, seed=stage.seed)
    except UserError as error:
        raise UserError(f"stage {stage.name}: prune: {str(error).removeprefix('prune.')}") from None
    setattr(model, PRUNED, report)


def _refuse_waking(model: nn.Module, stage: Stage) -> None:
    """Pruned weights that are trained would not stay zero."""
    for matrix in matrices(model):
        if in_blocks(matrix.name) and matrix.is_trained and int((matrix.weight() == 0).sum()):
            raise UserError(
                f"stage {stage.name}: method {stage.method.name} trains {matrix.name}, so the weights that prune "
                "removes would wake up. Use a method that leaves the pretrained weights frozen, such as dsee or lora"
            )


def reference_model(path: str, folder_of_stage: Path | None, tokenizer: Any, stage: Stage) -> nn.Module:
    """The model that a stage's reference losses are measured on: a folder, `hub:owner/name`, or an earlier stage's.

    Raises:
        UserError: there is no model, or the tokenizer is not its own.
    """
    source = replace(stage, model=ModelSource(path=path) if path else stage.model, method=Dense(), prune=None)
    return initial_model(source, Origin(model=folder_of_stage), tokenizer, VocabularyHead())


def _loaded(source: str, head: Head, seed: int, *, again: bool) -> nn.Module:
    """The merged model of a folder; a stage's own can be made again."""
    try:
        return head.load(source, seed)
    except UserError as error:
        raise UserError(f"{str(error).rstrip('.')}. {_AGAIN}" if again else str(error)) from None


def _new(stage: Stage, tokenizer: Any, head: Head) -> nn.Module:
    values = dict(stage.model.config)
    values.setdefault("vocab_size", len(tokenizer))
    values.setdefault("bos_token_id", tokenizer.bos_token_id)
    values.setdefault("eos_token_id", tokenizer.eos_token_id)
    values.setdefault("pad_token_id", tokenizer.pad_token_id)
    torch.manual_seed(stage.seed)
    return built(stage, values, head)


def built(stage: Stage, values: dict[str, Any], head: Head) -> nn.Module:
    """The model of these values, which a stage begins with or descends from.

    Raises:
        UserError: the configuration is refused.
    """
    try:
        if not stage.model.path:  # a folder's own configuration may hold values of other releases, which do nothing
            check_config(values)
        with quiet():
            return head.build(values)
    except UserError as error:
        raise UserError(f"stage {stage.name}: model.config: {error}") from None
    except Exception as error:  # transformers raises many kinds
        raise UserError(f"stage {stage.name}: model.config is refused by transformers: {in_a_line(error)}") from error


def check_stage(chain: Sequence[Stage], head: Head, vocabulary: int, computed: list[dict[str, Any]]) -> None:
    """Build and convert the model of a stage without memory: what does not fit is known before anything is made.

    Args:
        chain: the stage, whose method, targets, supports and projected gradients are checked, after those that it
            descends from. Only a model from a configuration or a folder can be built.
        head: what the stage needs on the blocks.
        vocabulary: number of tokens; 0 where it is not known yet.
        computed: values of models that were tried already; gets those of this one.

    Raises:
        UserError: the configuration is refused, or the model cannot be computed; a model cannot be cut to a target,
            targets match nothing, or a support does not fit a matrix.
    """
    root, stage = chain[0], chain[-1]
    for one in chain[:-1]:
        if isinstance(one.method, AttachesModules) and not one.method.mergeable:
            raise UserError(
                f"stage {stage.name} cannot come after stage {one.name}, whose method {one.method.name} trains what is "
                "no part of the weights. Begin it with another stage"
            )
    path = root.model.path
    if path and not path.startswith("hub:") and not Path(path, "config.json").is_file():
        raise UserError(f"stage {root.name}: model.path is {path}, which holds no model (no config.json)")
    if path.startswith("hub:"):
        return
    values = head.undecided(read_config(root)) if path else dict(root.model.config)
    for one in chain:
        values = begins_with(one, values)
        if one is not stage:
            values = leaves(one, values)
    try:
        if not path:
            check_ids(values, vocabulary)
        with torch.device("meta"):
            model = built(root, values, head)
        if values not in computed:
            with quiet():
                check_forward(model)
            computed.append(values)
    except UserError as error:
        known = str(error).startswith("stage ")
        raise UserError(str(error) if known else f"stage {root.name}: model.config: {error}") from None
    try:
        if isinstance(stage.prune, Heads):
            check_heads(model, stage.prune)
        convert(model, stage.method, targets=stage.targets)
        if stage.trains and stage.update.projection is not None:
            projected_names(model, stage.update.projection)
    except UserError as error:
        raise UserError(f"stage {stage.name}: {error}") from None
    except (RuntimeError, MemoryError, OverflowError) as error:  # of torch: sizes that no tensor has
        raise UserError(f"stage {stage.name}: method {stage.method.name} does not fit: {in_a_line(error)}") from error


def _check_vocabulary(model: Any, tokenizer: Any, stage: Stage, before: dict[str, Any]) -> None:
    trained_with = before.get("tokenizer", "")
    if trained_with and trained_with != tokenizer_fingerprint(tokenizer):
        raise UserError(
            f"stage {stage.name}: {stage.model} was trained with another tokenizer ({trained_with}; this one is "
            f"{tokenizer_fingerprint(tokenizer)}): the same text would mean other tokens. Give tokenizer.path of the "
            "one that the model was trained with"
        )
    rows = int(model.get_input_embeddings().weight.shape[0])
    if len(tokenizer) > rows:
        raise UserError(
            f"stage {stage.name}: the tokenizer has {len(tokenizer):,} tokens, but the model knows only {rows:,}: it "
            "is the wrong tokenizer for this model. Give tokenizer.path of the one that the model was trained with, or "
            "leave vocab_size out of model.config"
        )


def _refuse_lost_weights(report: ConversionReport, before: dict[str, Any], stage: Stage) -> None:
    """A sparse stage after one of ours must not give up what that one trained."""
    lost = report.lost
    if lost:
        raise UserError(
            f"stage {stage.name} would throw away {lost:,} trained weights of {stage.model}, which was trained by "
            f"{before.get('method')} with seed {before.get('seed')}: its support is another one. Give this stage the "
            "same seed, sparsity, support, distribution and targets, or method dense"
        )


def read_record(folder: Path) -> dict[str, Any]:
    """How the model in a folder was trained; empty when fallow did not train it."""
    path = folder / MODEL_RECORD
    if not path.exists():
        return {}
    record = integrity.read_record(path, f"Restore it, or remove {path} to use the model as it is")
    if not isinstance(record.get("layers", []), list):
        raise UserError(f"{path} is damaged (layers is not a list). {_AGAIN}")
    return record
