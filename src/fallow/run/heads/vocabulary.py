"""The head of a causal language model: log-probabilities of the next token."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from fallow.causal import check_causal
from fallow.conversion import merge
from fallow.data.batch import Dataset
from fallow.evaluate.perplexity import perplexity, pooled
from fallow.folder import build, load, load_stock
from fallow.train import Mesh
from fallow.train.objective import NextToken, Objective


class VocabularyHead:
    """Text and pairs."""

    counts = "tokens"

    def build(self, values: Mapping[str, Any]) -> nn.Module:
        """A causal language model."""
        return build(dict(values))

    def undecided(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """All of them."""
        return dict(values)

    def load(self, source: str, seed: int) -> nn.Module:
        """A causal language model with the head that it has."""
        if source.startswith("hub:"):
            from transformers import AutoModelForCausalLM

            return load_stock(source.removeprefix("hub:"), AutoModelForCausalLM).float()
        return merge(load(Path(source)).float())

    def check(self, model: nn.Module, source: str) -> None:
        """Refuse a model that sees the tokens which it has to predict."""
        check_causal(model, source)

    def fits(self, model: nn.Module) -> bool:
        """Whether it predicts the next token."""
        stock: Any = model
        return bool(stock.can_generate()) and not stock.config.is_encoder_decoder

    def adapt(self, model: nn.Module, tokenizer: Any) -> None:
        """Padding has no loss and nothing looks to the right, so there is nothing to tell."""

    def objective(self, label_smoothing: float) -> Objective:
        """Next-token prediction."""
        return NextToken(label_smoothing)

    def validate(
        self, model: nn.Module, held_out: Mapping[str, Dataset], *, batch_size: int, max_batches: int, mesh: Mesh | None
    ) -> dict[str, float]:
        """Loss on every held-out set, and over all of their tokens."""
        found = {
            name: perplexity(model, dataset, batch_size=batch_size, max_batches=max_batches, mesh=mesh)
            for name, dataset in held_out.items()
        }
        parts = {f"loss/{name}": part["loss"] for name, part in found.items()} if len(found) > 1 else {}
        return {"loss": pooled(found.values())["loss"], **parts}
