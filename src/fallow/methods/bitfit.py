"""BitFit: train the biases and nothing else."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from fallow.linear import Site, Terms
from fallow.methods.adapted import is_head
from fallow.methods.base import Method
from fallow.random import Key


@dataclass(frozen=True, kw_only=True, slots=True)
class BitFit(Method):
    """Fine-tuning of every bias vector (Ben Zaken et al., 2022, arXiv 2106.10199), a baseline of LoRA and DSEE.

    No layer is changed. Biases of linear layers and of norms are trained, and a task's new head; a model without
    biases, such as Llama, has nothing to train and is refused.

    >>> sorted(BitFit().trainable(["h.0.fc.weight", "h.0.fc.bias", "ln_f.bias", "classifier.weight"]))
    ['classifier.weight', 'h.0.fc.bias', 'ln_f.bias']

    Differs from the paper: nothing; its smaller variant (biases of queries and of the MLP alone) is not offered.
    """

    name: ClassVar[str] = "bitfit"

    def plan(self, sites: Mapping[str, Site], key: Key) -> dict[str, Terms]:
        """No terms: the stock layers stay."""
        return {}

    def trainable(self, names: Iterable[str]) -> set[str]:
        """Biases, and the head of a task."""
        return {name for name in names if name.endswith("bias") or is_head(name)}
