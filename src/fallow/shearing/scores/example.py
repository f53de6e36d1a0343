"""Text that scores are measured on. b: sequences, t: positions."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Example = tuple[Tensor, Tensor]
"""Token ids and labels, both (b, t); labels are shifted already, -100 where there is no loss."""


def loss_of(model: nn.Module, example: Example) -> Tensor:
    """Mean loss over the labels of an example."""
    input_ids, labels = example
    called: Any = model
    logits = called(input_ids=input_ids, use_cache=False).logits.float()
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten())


def run(model: nn.Module, examples: Iterable[Example], see: Callable[[Tensor], None] | None = None) -> None:
    """Forward passes in evaluation mode, for those who watch; `see` gets each loss."""
    training = model.training
    model.eval()
    try:
        for example in examples:
            loss = loss_of(model, example)
            if see is not None:
                see(loss)
    finally:
        model.train(training)


def on_device(examples: Iterable[Example], device: torch.device) -> list[Example]:
    """The examples where the model is."""
    return [(ids.to(device), labels.to(device)) for ids, labels in examples]
