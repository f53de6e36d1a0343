"""Texts generated for the contexts of held-out pairs, and their scores."""

from typing import Any

from fallow.data.pairs import PairDataset
from fallow.evaluate.pairs import evaluate_pairs
from fallow.run.finished import Finished

NUM_SAMPLES = 6


def generated_texts(finished: Finished) -> dict[str, Any]:
    """What the model generates for held-out pairs, compared with their references; nothing for plain text."""
    pairs = next((data for data in finished.held_out.values() if isinstance(data, PairDataset)), None)
    if pairs is None:
        return {}
    shown = 0

    def progress(done: int, total: int) -> None:
        nonlocal shown
        if done == total or done >= shown + total / 4:
            finished.say(f"  generated {done} of {total} texts")
            shown = done

    decoding = finished.stage.evaluate.decoding
    found = evaluate_pairs(
        finished.model, finished.tokenizer, pairs.groups(), decoding, encode=pairs.prompt, progress=progress
    )
    return {**found.to_dict(), "samples": found.samples(NUM_SAMPLES)}
