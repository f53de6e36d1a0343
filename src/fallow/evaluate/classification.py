"""Answers of a model with a classification head, and how good they are. b: sequences, c: classes."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from fallow.data.classification import ClassificationDataset, LabelBatch
from fallow.errors import UserError
from fallow.evaluate.agreement import Numbers, agreement
from fallow.evaluate.modes import evaluating
from fallow.evaluate.perplexity import Processes
from fallow.evaluate.selection import spread


class Gathering(Processes, Protocol):
    """Processes that can show each other small values."""

    def gather(self, value: Any, /) -> list[Any]:
        """The value of every process, in the order of ranks."""
        ...


def classify(
    model: nn.Module,
    dataset: ClassificationDataset,
    *,
    batch_size: int = 32,
    max_batches: int = 0,
    mesh: Gathering | None = None,
) -> dict[str, float]:
    """Loss and metrics of a model on labelled texts.

        loss  = mean cross-entropy of the labels, or mean squared error of the values
        score = mean of the task's metrics, as GLUE's average takes them

    The answer is the class of the largest output, or the output itself. Logits are compared in fp32, and nothing
    depends on `batch_size` or on the number of processes.

    Args:
        model: with a head for the task: its output has `.logits` of shape (b, c).
        dataset: labelled texts.
        batch_size: sequences in a forward pass on each process.
        max_batches: look at no more than this many batches, evenly spread; 0 looks at all.
        mesh: processes that share the batches.

    Returns:
        `loss`, `score`, each metric of the task by name, and `num_examples`.

    Raises:
        UserError: the model's head is one for another task, or an answer is not a number.
    """
    _, answers, labels, losses = _answers(model, dataset, batch_size, max_batches, mesh)
    found = agreement(dataset.task.metrics, answers, labels)
    score = sum(found.values()) / len(found)
    return {"loss": float(losses.mean()), "score": score, **found, "num_examples": len(labels)}


def predictions(model: nn.Module, dataset: ClassificationDataset, *, batch_size: int = 32) -> list[int | float]:
    """The number of the class, or the value, that a model gives for each text, in the order of the data set."""
    _, answers, _, _ = _answers(model, dataset, batch_size, 0, None)
    return [float(x) for x in answers] if dataset.task.is_regression else [int(x) for x in answers]


def pooled(parts: Sequence[dict[str, float]]) -> dict[str, float]:
    """Several results of one task as one: the loss over all examples, and the mean of each metric.

    GLUE reports MNLI's two sets apart and takes their mean into its average.
    """
    total = sum(part["num_examples"] for part in parts)
    loss = sum(part["loss"] * part["num_examples"] for part in parts) / total
    names = [name for name in parts[0] if name not in ("loss", "num_examples")]
    means = {name: sum(part[name] for part in parts) / len(parts) for name in names}
    return {"loss": loss, **means, "num_examples": total}


def pad_with(model: Any, tokenizer: Any) -> None:
    """Tell a model which token is padding, as `ClassificationDataset` pads: the end token where there is no other."""
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    model.config.pad_token_id = pad


def _answers(
    model: nn.Module, dataset: ClassificationDataset, batch_size: int, max_batches: int, mesh: Gathering | None
) -> tuple[list[int], Numbers, Numbers, Numbers]:
    """(index, answer, label, loss) of each example that was looked at, in the order of the data set."""
    order = dataset.task.order_in(model.config, f"the head of {type(model).__name__}")
    rank, world = (mesh.rank, mesh.world) if mesh is not None else (0, 1)
    starts = range(0, len(dataset), batch_size)
    batches = [starts[i] for i in spread(len(starts), max_batches)]
    found: list[tuple[int, float, float, float]] = []
    with evaluating(model):
        for first in range(0, len(batches), world):
            mine = first + rank
            # With sharded weights a forward pass needs all processes: one without a batch repeats the last, unweighted.
            start = batches[min(mine, len(batches) - 1)]
            indices = range(start, min(start + batch_size, len(dataset)))
            batch = dataset.collate([dataset.sample(i) for i in indices])
            answers_b, losses_b = _one(model, batch, order)
            if mine < len(batches):
                rows = zip(indices, answers_b.tolist(), batch.labels.tolist(), losses_b.tolist(), strict=True)
                found += rows
    if mesh is not None:
        found = [row for share in mesh.gather(found) for row in share]
    found.sort()
    if not found:
        raise UserError(f"{dataset.name} is empty, so nothing can be measured on it")
    columns = [np.array(column, dtype=np.float64) for column in zip(*found, strict=True)]
    return [row[0] for row in found], columns[1], columns[2], columns[3]


def _one(model: nn.Module, batch: LabelBatch, order: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Answers and losses of a batch, both (b,)."""
    device = next(model.parameters()).device
    batch = batch.to(device)
    logits_bc = model(**batch.inputs_for(model)).logits.float()[:, list(order)]
    if batch.labels.is_floating_point():
        return logits_bc[:, 0], (logits_bc[:, 0] - batch.labels) ** 2
    return logits_bc.argmax(dim=-1), F.cross_entropy(logits_bc, batch.labels, reduction="none")
