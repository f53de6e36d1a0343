"""How well held-out texts are classified."""

from typing import Any

from fallow.data.classification import ClassificationDataset
from fallow.evaluate.classification import classify, pooled
from fallow.evaluate.progress import shown
from fallow.run.finished import Finished


def labelled_texts(finished: Finished) -> dict[str, Any]:
    """Loss, score and metrics of the task on each held-out set, and over all; nothing for text and pairs."""
    sets = {name: data for name, data in finished.held_out.items() if isinstance(data, ClassificationDataset)}
    if not sets:
        return {}
    finished.say(f"  classifying {', '.join(f'{name} ({len(data):,} texts)' for name, data in sets.items())}")
    parts = {}
    for name, data in sets.items():
        with shown(f"{name}, batches", lines=4) as progress:
            parts[name] = classify(finished.model, data, batch_size=finished.stage.batch.micro, progress=progress)
    task = next(iter(sets.values())).task
    return {"split": finished.split, "task": task.name, **pooled(list(parts.values())), "parts": parts}
