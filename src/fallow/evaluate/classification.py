"""Answers of a model with a classification head, and how good they are. b: sequences, c: classes."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn
from torch.nn import functional as F

from fallow.data.classification import ClassificationDataset, LabelBatch
from fallow.errors import UserError
from fallow.evaluate.modes import evaluating
from fallow.evaluate.perplexity import Processes
from fallow.evaluate.progress import Progress
from fallow.evaluate.selection import spread
from fallow.metrics.classification import Numbers, classification_metrics


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
    progress: Progress | None = None,
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
        progress: called with the number of batches done and of all.

    Returns:
        `loss`, `score`, each metric of the task by name, and `num_examples`.

    Raises:
        UserError: the model's head is one for another task, or an answer is not a number.
    """
    answers, labels, losses = _answers(model, dataset, batch_size, max_batches, mesh, progress)
    found = classification_metrics(dataset.task.metrics, answers, labels)
    score = sum(found.values()) / len(found)
    return {"loss": float(losses.mean()), "score": score, **found, "num_examples": len(labels)}


def answers_of(
    model: nn.Module, dataset: ClassificationDataset, *, batch_size: int = 32, progress: Progress | None = None
) -> list[str]:
    """What a model answers to each text, in the order of the data set and written as GLUE's files write it.

    Values are kept within the task's span, as GLUE's evaluation asks for.
    """
    answers, _, _ = _answers(model, dataset, batch_size, 0, None, progress)
    task = dataset.task
    if task.is_regression:
        return [f"{value:.3f}" for value in np.clip(answers, *task.span)]
    return [task.written[int(number)] for number in answers]


def pooled(parts: Sequence[dict[str, float]]) -> dict[str, float]:
    """Several results of one task as one: the loss over all examples, and the mean of each metric.

    GLUE reports MNLI's two sets apart and takes their mean into its average.
    """
    total = sum(part["num_examples"] for part in parts)
    loss = sum(part["loss"] * part["num_examples"] for part in parts) / total
    names = [name for name in parts[0] if name not in ("loss", "num_examples")]
    means = {name: sum(part[name] for part in parts) / len(parts) for name in names}
    return {"loss": loss, **means, "num_examples": total}


def check_classifier(model: Any, source: object) -> None:
    """Refuse a model without a head for labels.

    Raises:
        UserError: names its class, and what is needed.
    """
    if not type(model).__name__.endswith("ForSequenceClassification"):
        raise UserError(
            f"{source} holds a {type(model).__name__}, which has no head for labels. Train one on data of kind "
            "classification, or name a folder that holds a classifier, such as BertForSequenceClassification"
        )


def pad_with(model: Any, tokenizer: Any) -> None:
    """Tell a model which token is padding, as `ClassificationDataset` pads: the end token where there is no other."""
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    model.config.pad_token_id = pad


def _answers(
    model: nn.Module,
    dataset: ClassificationDataset,
    batch_size: int,
    max_batches: int,
    mesh: Gathering | None,
    progress: Progress | None,
) -> tuple[Numbers, Numbers, Numbers]:
    """Answer, label and loss of each example that was looked at, in the order of the data set."""
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
            if progress is not None:
                progress(min(first + world, len(batches)), len(batches))
    if mesh is not None:
        found = [row for share in mesh.gather(found) for row in share]
    found.sort()
    if not found:
        raise UserError(f"{dataset.name} is empty, so nothing can be measured on it")
    columns = [np.array(column, dtype=np.float64) for column in zip(*found, strict=True)]
    return columns[1], columns[2], columns[3]


def _one(model: nn.Module, batch: LabelBatch, order: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Answers and losses of a batch, both (b,)."""
    device = next(model.parameters()).device
    batch = batch.to(device)
    logits_bc = model(**batch.inputs_for(model)).logits.float()[:, list(order)]
    if batch.labels.is_floating_point():
        return logits_bc[:, 0], (logits_bc[:, 0] - batch.labels) ** 2
    return logits_bc.argmax(dim=-1), F.cross_entropy(logits_bc, batch.labels, reduction="none")
