"""Texts generated for the contexts of held-out pairs, and their scores."""

from typing import Any

from fallow.data.pairs import PairDataset
from fallow.evaluate.fingerprint import fingerprint
from fallow.evaluate.pairs import evaluate_pairs
from fallow.evaluate.progress import shown
from fallow.evaluate.transcript import Transcript
from fallow.run.finished import Finished

NUM_SAMPLES = 6

TEXTS = "texts.jsonl"
"""In the folder of the stage: every text, and what an interrupted judgement goes on from."""


def generated_texts(finished: Finished) -> dict[str, Any]:
    """What the model generates for held-out pairs, compared with their references; nothing for plain text."""
    pairs = next((data for data in finished.held_out.values() if isinstance(data, PairDataset)), None)
    if pairs is None:
        return {}
    model, tokenizer, decoding = finished.model, finished.tokenizer, finished.stage.evaluate.decoding
    written = Transcript(finished.folder / TEXTS, fingerprint(model, tokenizer, decoding), replace=True)
    with shown("generating texts", lines=4) as progress:
        found = evaluate_pairs(
            model,
            tokenizer,
            pairs.groups(),
            decoding,
            encode=pairs.prompt,
            profile=finished.stage.evaluate.profile,
            progress=progress,
            transcript=written,
        )
    return {**found.to_dict(), "samples": found.samples(NUM_SAMPLES)}
