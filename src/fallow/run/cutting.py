"""A model that is cut before its stage begins: chosen once, by the main process, on the stage's own data."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fallow.data.splits import Splits
from fallow.errors import UserError
from fallow.run.main_first import main_first
from fallow.run.stage import Stage
from fallow.shearing.counter import Counter
from fallow.shearing.kept import KEPT_FILE, Kept
from fallow.shearing.scores.choose import choose
from fallow.shearing.scores.example import Example
from fallow.shearing.surgery import cut
from fallow.shearing.target import shape_for
from fallow.train import Mesh

Reshape = Callable[[nn.Module], nn.Module]
"""The model of a stage's source -> the one that the stage begins with."""


def cutter(stage: Stage, splits: Splits, folder: Path, mesh: Mesh) -> Reshape:
    """What cuts the source's model as the stage asks; without a wish, nothing.

    The units that stay are written into the stage's folder, and read from there by the other processes and after an
    interruption.

    Args:
        stage: says how.
        splits: its data, to measure the model on.
        folder: of the stage.
        mesh: the processes; all of them cut.
    """
    known: list[Kept] = []  # a second call, which the main process makes alone, must not wait for the others

    def reshape(model: nn.Module) -> nn.Module:
        if stage.model.cut is None:
            return model
        if not known:
            with main_first(mesh) as is_main:
                if is_main and not (folder / KEPT_FILE).exists():
                    _chosen(model.to(mesh.device), stage, splits).save(folder / KEPT_FILE)
            known.append(Kept.load(folder / KEPT_FILE))
        return cut(model.cpu(), known[0])

    return reshape


def copy_kept(folder: Path, model: Path) -> None:
    """Into the folder of the finished model: which units of its source it began with."""
    if (folder / KEPT_FILE).exists():
        shutil.copy2(folder / KEPT_FILE, model / KEPT_FILE)


def _chosen(model: nn.Module, stage: Stage, splits: Splits) -> Kept:
    wanted = stage.model.cut
    assert wanted is not None
    stock: Any = model
    try:
        target = shape_for(wanted.to, stock.config, lambda: Counter.of(model, stock.config))
        examples = _examples(stage, splits, wanted.sequences)
        return choose(model, target, wanted.by, examples, sharing=wanted.sharing, depth=wanted.depth, seed=stage.seed)
    except UserError as error:
        raise UserError(f"stage {stage.name}: model.cut: {error}") from None


def _examples(stage: Stage, splits: Splits, num: int) -> list[Example]:
    """The first sequences that the stage would train on."""
    found: list[Example] = []
    micro = min(stage.batch.micro, num)
    stream = splits.mixture(micro)
    while sum(len(ids) for ids, _ in found) < num:
        batch = stream.next_batches(1)[0]
        left = num - sum(len(ids) for ids, _ in found)
        found.append((torch.as_tensor(batch.input_ids)[:left], torch.as_tensor(batch.labels)[:left]))
    return found
