"""What a finished model is worth: loss on held-out data, generated texts and their scores."""

from typing import Any

from torch import nn

from fallow.data.batch import Dataset
from fallow.data.pairs import PairDataset
from fallow.data.splits import Splits
from fallow.evaluate.pairs import evaluate_pairs
from fallow.evaluate.perplexity import perplexity, pooled_loss
from fallow.run.stage import Stage
from fallow.run.training import Say

NUM_SAMPLES = 6


def judge(model: nn.Module, tokenizer: Any, splits: Splits, stage: Stage, say: Say) -> dict[str, Any]:
    """Measure a merged model: perplexity of each held-out set; for pairs also BLEU of what it generates.

    Pairs are judged on their test set; without one, on the validation set, which the record says.
    """
    scores: dict[str, Any] = {}
    judged, role = _judged(splits)
    if not judged:
        return scores
    say(f"  evaluating on {', '.join(judged)}")
    parts = {name: perplexity(model, data, batch_size=stage.batch.micro) for name, data in judged.items()}
    loss, num_tokens = pooled_loss(parts.values())
    scores |= {"split": role, "loss": loss, "num_tokens": num_tokens, "parts": parts}
    pairs = next((data for data in judged.values() if isinstance(data, PairDataset)), None)
    if pairs is not None:
        shown = 0

        def progress(done: int, total: int) -> None:
            nonlocal shown
            if done == total or done >= shown + total / 4:
                say(f"  generated {done} of {total} texts")
                shown = done

        found = evaluate_pairs(model, tokenizer, pairs.groups(), stage.decoding, encode=pairs.prompt, progress=progress)
        scores |= {**found.to_dict(), "samples": found.samples(NUM_SAMPLES)}
    return scores


def _judged(splits: Splits) -> tuple[dict[str, Dataset], str]:
    if splits.test is not None:
        return {splits.test.name: splits.test}, "test"
    return splits.valid, "validation"
