"""The "N + 1" figure: the validation loss as the released code of GaLore and SLTrain computes it."""

from torch import nn

from fallow.errors import UserError
from fallow.evaluate.modes import evaluating
from fallow.evaluate.perplexity import Sequences, exponential, summed_loss
from fallow.evaluate.progress import Progress


def n_plus_one(
    model: nn.Module,
    dataset: Sequences,
    *,
    sequences: int,
    batch_size: int = 8,
    progress: Progress | None = None,
) -> dict[str, float]:
    r"""The sum of the batches' mean losses over N + 1, to be set beside figures that were published this way.

        loss = (1 / (N + 1)) sum_{n = 1..N} mean over the tokens of batch n of -log p

    That code counts batches from 1 and divides by the count, so a figure is N / (N + 1) of the mean: the more text is
    looked at, the less it is too low. With N = 200, a perplexity of 34.1 stands for 34.7.

    Args:
        model: any causal language model.
        dataset: sequences with labels already shifted.
        sequences: in a batch of the figure; the last batch may be smaller.
        batch_size: sequences in a forward pass. Changes speed and memory only.
        progress: is told how many batches are done.

    Returns:
        `loss`, `perplexity`, and `num_batches` (N).

    Raises:
        UserError: the data set is empty, or a batch has no label.

    Differs from the released code: text is packed, where that code cuts every document at the context and pads shorter
    ones; all of the text is looked at, by one process. Each batch's mean is taken over its labels in fp32.
    """
    if len(dataset) == 0:
        raise UserError("the N + 1 figure needs at least one sequence, but the data set is empty")
    starts = range(0, len(dataset), sequences)
    total = 0.0
    with evaluating(model):
        for number, start in enumerate(starts, 1):
            end = min(start + sequences, len(dataset))
            loss, num_tokens = 0.0, 0
            for first in range(start, end, batch_size):
                chosen = range(first, min(first + batch_size, end))
                part, labels = summed_loss(model, dataset.collate([dataset.sample(i) for i in chosen]))
                loss, num_tokens = loss + part, num_tokens + labels
            if num_tokens == 0:
                raise UserError(f"the N + 1 figure needs labelled tokens, but batch {number} has none")
            total += loss / num_tokens
            if progress is not None:
                progress(number, len(starts))
    mean = total / (len(starts) + 1)
    return {"loss": mean, "perplexity": exponential(mean), "num_batches": len(starts)}
