"""What is made small: the loss of predicting each next token, or the one label of a text."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn import functional as F


class Batch(Protocol):
    """Sequences of one micro-batch, as the loop needs them."""

    @property
    def input_ids(self) -> torch.Tensor:
        """Shape (b, t), int64."""
        ...

    @property
    def labels(self) -> torch.Tensor:
        """Shape (b, t), int64: the token after each input, or -100 for no loss. Already shifted."""
        ...

    @property
    def ids(self) -> tuple[str | int, ...]:
        """Where each sequence comes from."""
        ...

    @property
    def num_valid(self) -> int:
        """Number of labels that are not -100."""
        ...

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        ...


Objective = Callable[[nn.Module, Any], torch.Tensor]
"""(model, batch) -> the loss summed over the batch's valid tokens, a scalar."""


class NextToken:
    """Causal language modelling: minus the log-probability of each label, summed over the labels that are not -100.

    The log-softmax is taken in fp32, whatever the type of the logits. With label smoothing e and a vocabulary of V, the
    target is 1 - e + e / V on the label and e / V on every other token.

    Args:
        label_smoothing: e.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = label_smoothing

    def __call__(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """The loss of one micro-batch, a scalar."""
        # A cache of keys and values is of no use in training and would hold memory.
        has_cache = getattr(getattr(model, "config", None), "use_cache", None) is not None
        output = model(input_ids=batch.input_ids, use_cache=False) if has_cache else model(input_ids=batch.input_ids)
        logits_nv = output.logits.float().flatten(0, 1)
        labels_n = batch.labels.flatten()
        return F.cross_entropy(logits_nv, labels_n, reduction="sum", label_smoothing=self.label_smoothing)


class LabelBatch(Protocol):
    """Texts of one micro-batch with one label each."""

    @property
    def labels(self) -> torch.Tensor:
        """Shape (b,): int64 numbers of classes, or float32 values."""
        ...

    def inputs_for(self, model: Any) -> dict[str, torch.Tensor]:
        """What a model is called with."""
        ...


class TextClass:
    """Classification: minus the log-probability of the label of each text, summed over the texts.

    Args:
        label_smoothing: e; the target is 1 - e + e / C on the label and e / C on each other of C classes.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = label_smoothing

    def __call__(self, model: nn.Module, batch: LabelBatch) -> torch.Tensor:
        """The loss of one micro-batch, a scalar."""
        logits_bc = model(**batch.inputs_for(model)).logits.float()
        return F.cross_entropy(logits_bc, batch.labels, reduction="sum", label_smoothing=self.label_smoothing)


class TextValue:
    """Regression: the squared error of the one output for each text, summed over the texts."""

    def __call__(self, model: nn.Module, batch: LabelBatch) -> torch.Tensor:
        """The loss of one micro-batch, a scalar."""
        values_b = model(**batch.inputs_for(model)).logits.float()[:, 0]
        return F.mse_loss(values_b, batch.labels, reduction="sum")
