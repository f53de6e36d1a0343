"""Loss and perplexity on what was held out."""

from typing import Any

from fallow.data.batch import Dataset
from fallow.data.classification import ClassificationDataset
from fallow.data.tokens import TokenDataset
from fallow.data.windows import WindowDataset
from fallow.evaluate.n_plus_one import n_plus_one
from fallow.evaluate.perplexity import perplexity, pooled
from fallow.evaluate.progress import shown
from fallow.run.finished import Finished


def held_out_loss(finished: Finished) -> dict[str, Any]:
    """The loss on each held-out set, and over all their tokens. For pairs it is taken on the targets."""
    sets = {name: data for name, data in finished.held_out.items() if not isinstance(data, ClassificationDataset)}
    if not sets:
        return {}
    finished.say(f"  evaluating on {', '.join(sets)}")
    settings, batch_size = finished.stage.evaluate.perplexity, finished.stage.batch.micro
    parts: dict[str, dict[str, float]] = {}
    most, total = -(-finished.stage.evaluate.max_sequences // batch_size), 0
    for name, data in sets.items():
        with shown(f"{name}, batches", lines=4) as progress:
            measured = _windows(data, settings.stride)
            total += len(measured)
            parts[name] = perplexity(
                finished.model, measured, batch_size=batch_size, max_batches=most, progress=progress
            )
    scores: dict[str, Any] = {"split": finished.split, **pooled(parts.values()), "parts": parts}
    if most:
        scores["num_sequences"] = round(sum(part["num_sequences"] for part in parts.values()))
        scores["num_sequences_total"] = total
    if settings.stride:
        scores["stride"] = settings.stride
    if settings.n_plus_one:
        scores["n_plus_one"] = {
            name: n_plus_one(finished.model, data, sequences=settings.n_plus_one, batch_size=batch_size)
            for name, data in sets.items()
        }
    return scores


def _windows(data: Dataset, stride: int) -> Dataset:
    if stride and isinstance(data, TokenDataset):
        return WindowDataset(data.shards, data.context, stride)
    return data
