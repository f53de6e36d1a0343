"""The model that a stage begins with."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fallow.conversion import convert
from fallow.data.tokenizer import tokenizer_fingerprint
from fallow.errors import UserError
from fallow.files import read_json
from fallow.folder import check_config, is_unmerged
from fallow.linear.inputs import dense_weight
from fallow.methods.base import reparam_layers
from fallow.methods.dense import Dense
from fallow.methods.sparse import wake
from fallow.run.configs import begins_with, leaves, read_config
from fallow.run.cutting import Reshape
from fallow.run.heads import Head, VocabularyHead
from fallow.run.stage import ModelSource, Stage
from fallow.train.optimizers.groups import projected_names

RECORD = "fallow-stage.json"
"""Beside a finished model: how it was trained. Hugging Face ignores it, the next stage reads it."""

_AGAIN = "Delete the folder of that stage, and the same command trains it again."


def initial_model(
    stage: Stage, folder_of_stage: Path | None, tokenizer: Any, head: Head, reshape: Reshape | None = None
) -> nn.Module:
    """The model of a stage, converted by its method, before the first step.

    The same weights on every process: what is new comes from the stage's seed alone.

    Args:
        stage: says where from and how.
        folder_of_stage: model folder of the earlier stage that it begins with, if it does.
        tokenizer: for the vocabulary of a new model, and to check an existing one.
        head: what stands on the blocks, by the kind of data.
        reshape: cuts the source's model, if the stage asks for it.

    Raises:
        UserError: no model there, the wrong tokenizer for it, targets that match nothing, or a support that would throw
            away trained weights.
    """
    path = folder_of_stage or (Path(stage.model.path) if stage.model.path else None)
    if path is None:
        model = _new(stage, tokenizer, head)
    else:
        source = str(folder_of_stage or stage.model.path)  # not of a Path, which would change hub:owner/name
        model = _loaded(source, head, stage.seed, again=folder_of_stage is not None)
    before = read_record(path) if path is not None and not is_unmerged(path) else {}
    _check_vocabulary(model, tokenizer, stage, before)
    head.adapt(model, tokenizer)
    if reshape is not None:
        model = reshape(model)
    if stage.method.name == "dense" and before.get("revive", "zeros") != "zeros":
        wake(model, before.get("layers", []), before["revive"], stage.seed)
    originals = {n: dense_weight(model.get_submodule(n)).detach() for n in before.get("layers", [])}
    convert(model, stage.method, targets=stage.targets, seed=stage.seed, pretrained=path is not None)
    _refuse_lost_weights(model, originals, before, stage)
    return model


def reference_model(path: str, folder_of_stage: Path | None, tokenizer: Any, stage: Stage) -> nn.Module:
    """The model that a stage's reference losses are measured on: a folder, `hub:owner/name`, or an earlier stage's.

    Raises:
        UserError: there is no model, or the tokenizer is not its own.
    """
    source = replace(stage, model=ModelSource(path=path) if path else stage.model, method=Dense())
    return initial_model(source, folder_of_stage, tokenizer, VocabularyHead())


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
    return _built(stage, values, head)


def _built(stage: Stage, values: dict[str, Any], head: Head) -> nn.Module:
    try:
        check_config(values)
        return head.build(values)
    except UserError as error:
        raise UserError(f"stage {stage.name}: model.config: {error}") from None
    except Exception as error:  # transformers raises many kinds
        raise UserError(f"stage {stage.name}: model.config is refused by transformers: {error}") from error


def check_stage(chain: Sequence[Stage], head: Head) -> None:
    """Build and convert the model of a stage without memory: what does not fit is known before anything is made.

    Args:
        chain: the stage, whose method, targets, supports and projected gradients are checked, after those that it
            descends from. Only a model from a configuration or a folder can be built.
        head: what the stage needs on the blocks.

    Raises:
        UserError: the configuration is refused, a model cannot be cut to a target, targets match nothing, or a support
            does not fit a matrix.
    """
    root, stage = chain[0], chain[-1]
    path = root.model.path
    if path and not path.startswith("hub:") and not Path(path, "config.json").is_file():
        raise UserError(f"stage {root.name}: model.path is {path}, which holds no model (no config.json)")
    if path.startswith("hub:"):
        return
    values = read_config(root) if path else dict(root.model.config)
    for one in chain:
        values = begins_with(one, values)
        if one is not stage:
            values = leaves(one, values)
    with torch.device("meta"):
        model = _built(root, values, head)
    try:
        convert(model, stage.method, targets=stage.targets)
        if stage.optimizer.projection is not None:
            projected_names(model, stage.optimizer.projection)
    except UserError as error:
        raise UserError(f"stage {stage.name}: {error}") from None


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


def _refuse_lost_weights(
    model: nn.Module, originals: dict[str, torch.Tensor], before: dict[str, Any], stage: Stage
) -> None:
    """A sparse stage after a sparse one must stand on the same support; elsewhere trained weights would vanish."""
    lost = 0
    for name, layer in reparam_layers(model).items():
        if layer.terms.base is None and layer.terms.low_rank is None and name in originals:
            support = layer.support
            assert support is not None
            kept = originals[name].reshape(-1)[support.flat()].count_nonzero()
            lost += int(originals[name].count_nonzero() - kept)
    if lost:
        raise UserError(
            f"stage {stage.name} would throw away {lost:,} trained weights of {stage.model}, which was trained by "
            f"{before.get('method')} with seed {before.get('seed')}: its support is another one. Give this stage the "
            "same seed, sparsity, support, distribution and targets, or method dense"
        )


def read_record(folder: Path) -> dict[str, Any]:
    """How the model in a folder was trained; empty when fallow did not train it."""
    path = folder / RECORD
    if not path.exists():
        return {}
    record = read_json(path, _AGAIN)
    if not isinstance(record.get("layers", []), list):
        raise UserError(f"{path} is damaged (layers is not a list). {_AGAIN}")
    return record
