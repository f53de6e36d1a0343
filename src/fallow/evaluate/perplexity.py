"""Perplexity: how surprised a model is by text it has not seen.

Shapes: b = sequences, t = positions, n = positions with a label, v = vocabulary.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from fallow.errors import UserError
from fallow.evaluate.modes import evaluating
from fallow.evaluate.progress import Progress
from fallow.evaluate.selection import spread

_CHUNK = 1024


class LabelledBatch(Protocol):
    """Token ids and the labels to predict at each position (-100: no loss), both (b, t)."""

    @property
    def input_ids(self) -> Tensor:
        """int64 (b, t)."""

    @property
    def labels(self) -> Tensor:
        """int64 (b, t): the token that follows each input token."""


class Sequences(Protocol):
    """A data set of token sequences."""

    def __len__(self) -> int: ...

    def sample(self, index: int, /) -> Any:
        """One sequence: inputs and labels."""

    def collate(self, samples: Any, /) -> Any:
        """A `LabelledBatch` of several sequences."""


class Processes(Protocol):
    """The processes that share the work."""

    @property
    def rank(self) -> int:
        """Number of this process."""
        ...

    @property
    def world(self) -> int:
        """How many there are."""
        ...

    def sum(self, value: float, /) -> float:
        """The sum over processes, the same on each."""


def perplexity(
    model: nn.Module,
    dataset: Sequences,
    *,
    batch_size: int = 8,
    max_batches: int = 0,
    mesh: Processes | None = None,
    progress: Progress | None = None,
) -> dict[str, float]:
    r"""Mean negative log-likelihood per token, its exponential, and what does not depend on the tokenizer.

        loss = - (1 / n) sum_i log p(label_i | tokens before it),    perplexity = exp(loss)
        bits per byte = loss / log 2 * n / (UTF-8 bytes of the text of these n tokens)

    A token of one tokenizer is half a word, of another a letter, so losses per token cannot be compared between models
    with different tokenizers; bits per byte can. The end tokens of documents are part of the text that is predicted.

    Every labelled position weighs the same, whichever batch or process it was in, so the value depends neither on
    `batch_size` nor on the number of processes. The log-softmax is taken in fp32 whatever type the model computes in.

    Args:
        model: any causal language model whose output has `.logits` of shape (b, t, v).
        dataset: sequences with labels already shifted; -100 marks positions without loss.
        batch_size: sequences in a forward pass on each process.
        max_batches: look at no more than this many batches, evenly spread; 0 looks at all.
        mesh: processes that share the batches and sum their results; none for one process.
        progress: is told how many batches are done.

    Returns:
        `loss` in nats per token, `perplexity`, `num_tokens` (labelled positions) and `num_sequences`; where the data
        set knows its text (`bytes_per_token`) also `bits_per_byte` and `num_bytes`. Where not all tokens are looked at,
        bytes are shared out evenly over all, as Gao et al. (2020, The Pile) do.

    Raises:
        UserError: the data set is empty or has no labelled position.
    """
    rank, world = (mesh.rank, mesh.world) if mesh is not None else (0, 1)
    starts = range(0, len(dataset), batch_size)
    batches = [starts[i] for i in spread(len(starts), max_batches)]
    if not batches:
        raise UserError("perplexity needs at least one sequence, but the data set is empty")

    loss, num_tokens, num_sequences = 0.0, 0, 0
    with evaluating(model):
        for first in range(0, len(batches), world):
            mine = first + rank
            # With sharded weights a forward pass needs all processes: one without a batch repeats the last, unweighted.
            start = batches[min(mine, len(batches) - 1)]
            indices = range(start, min(start + batch_size, len(dataset)))
            batch_loss, batch_tokens = summed_loss(model, dataset.collate([dataset.sample(i) for i in indices]))
            if mine < len(batches):
                loss, num_tokens, num_sequences = (
                    loss + batch_loss,
                    num_tokens + batch_tokens,
                    num_sequences + len(indices),
                )
            if progress is not None:
                progress(min(first + world, len(batches)), len(batches))

    if mesh is not None:
        loss, num_tokens, num_sequences = mesh.sum(loss), round(mesh.sum(num_tokens)), round(mesh.sum(num_sequences))
    if num_tokens == 0:
        raise UserError(f"perplexity needs labelled tokens, but none of the {num_sequences} sequences has any")
    found: dict[str, float] = {
        "loss": loss / num_tokens,
        "perplexity": exponential(loss / num_tokens),
        "num_tokens": num_tokens,
        "num_sequences": num_sequences,
    }
    return _with_bytes(found, num_tokens * float(getattr(dataset, "bytes_per_token", 0.0)))


def summed_loss(model: nn.Module, batch: LabelledBatch) -> tuple[float, int]:
    """Negative log-likelihood summed over the labelled positions of a batch, and their number."""
    device = next(model.parameters()).device
    labels_bt = batch.labels.to(device)
    logits_btv = cast(Tensor, model(input_ids=batch.input_ids.to(device), use_cache=False).logits)
    labelled_bt = labels_bt != -100
    logits_nv, labels_n = logits_btv[labelled_bt], labels_bt[labelled_bt]
    # In chunks: an fp32 copy of all logits is often the largest tensor of an evaluation.
    total = 0.0
    for chunk_nv, chunk_n in zip(torch.split(logits_nv, _CHUNK), torch.split(labels_n, _CHUNK), strict=True):
        log_p_nv = torch.log_softmax(chunk_nv.float(), dim=-1)
        total -= log_p_nv.gather(1, chunk_n[:, None]).sum(dtype=torch.float64).item()
    return total, labels_n.numel()


def pooled(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Several results of `perplexity` as one, every token weighing the same."""
    found = list(parts)
    num_tokens = sum(part["num_tokens"] for part in found)
    total = sum(part["loss"] * part["num_tokens"] for part in found)
    values = {"loss": total / num_tokens, "perplexity": exponential(total / num_tokens), "num_tokens": num_tokens}
    sizes = [part.get("num_bytes", 0) for part in found]
    return _with_bytes(values, sum(sizes) if all(sizes) else 0)


def _with_bytes(found: dict[str, float], num_bytes: float) -> dict[str, float]:
    if not num_bytes:
        return found
    bits = found["loss"] * found["num_tokens"] / math.log(2)
    return {**found, "num_bytes": round(num_bytes), "bits_per_byte": bits / num_bytes}


def exponential(loss: float) -> float:
    """exp(loss), infinite where that exceeds a float."""
    return math.exp(loss) if loss < 700 else math.inf
