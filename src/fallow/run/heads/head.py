"""The head of a model: what stands on its blocks, and what is learned with it."""

from collections.abc import Mapping
from typing import Any, Protocol

from torch import nn

from fallow.data.batch import Dataset
from fallow.train import Mesh
from fallow.train.objective import Objective


class Head(Protocol):
    """What depends on the kind of data, beside the data itself."""

    counts: str
    """What has a loss: `tokens`, or `texts`."""

    def build(self, values: Mapping[str, Any]) -> nn.Module:
        """A model with fresh weights, from the values of a Hugging Face configuration.

        Raises:
            UserError: the configuration is none of such a model.
        """
        ...

    def undecided(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a folder's configuration that `build` takes: without those that the head itself decides."""
        ...

    def load(self, source: str, seed: int) -> nn.Module:
        """The merged model of a folder, or of `hub:owner/name`, with this head; fresh where it has none, by the seed.

        Raises:
            UserError: it cannot be loaded, or weights below the head would be random.
        """
        ...

    def check(self, model: nn.Module, source: str) -> None:
        """Refuse a model that cannot learn this, before its first step.

        Args:
            model: with its first weights.
            source: where it is from, for messages.

        Raises:
            UserError: says why, and what to use.
        """
        ...

    def fits(self, model: nn.Module) -> bool:
        """Whether a model has this very head already."""
        ...

    def adapt(self, model: nn.Module, tokenizer: Any) -> None:
        """Tell a model what it must know of the tokenizer."""
        ...

    def objective(self, label_smoothing: float) -> Objective:
        """What is made small in training."""
        ...

    def validate(
        self, model: nn.Module, held_out: Mapping[str, Dataset], *, batch_size: int, max_batches: int, mesh: Mesh | None
    ) -> dict[str, float]:
        """`loss` and whatever else is measured while training, over all sets and `/name` for each of several."""
        ...
