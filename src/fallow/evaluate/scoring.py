"""Scores of generated texts by a profile's name, in one form for all profiles."""

from collections.abc import Mapping, Sequence
from typing import Any

from fallow.evaluate.bleu import bleu
from fallow.evaluate.metrics import score

PLAIN = "sacrebleu"
"""The profile that belongs to no data set: sacrebleu's corpus BLEU."""


def score_texts(
    profile: str, hypotheses: Sequence[str], references: Sequence[Sequence[str]], *, lowercase: bool = False
) -> dict[str, Any]:
    """The scores of texts, and what exactly each number is, as `metrics.Scores.to_dict` has them.

    Args:
        profile: `sacrebleu`, or the official evaluation of a data set: `e2e`, `webnlg2017`, `webnlg2020`, `dart`.
        hypotheses: one text for each input.
        references: the accepted texts for each input.
        lowercase: without case; for `sacrebleu`, the others follow their scripts.

    Raises:
        UserError: no such profile, numbers that differ, no text at all.
    """
    if profile != PLAIN:
        return score(profile, hypotheses, references).to_dict()
    found = bleu(hypotheses, references, lowercase=lowercase)
    return {
        "profile": PLAIN,
        "script": "corpus BLEU of sacrebleu",
        "scores": {"bleu": found["bleu"]},
        "variants": {"bleu": found["signature"]},
        "scales": {"bleu": "0 to 100"},
        "official": ["bleu"],
        "absent": {},
        "num_hypotheses": len(hypotheses),
        "num_references": sum(bool(text.strip()) for group in references for text in group),
        "num_empty": sum(not text.strip() for text in hypotheses),
    }


def as_printed(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The scores as papers print them: what lies between 0 and 1 times 100.

    >>> as_printed({"scores": {"bleu": 0.6593, "nist": 8.61}, "scales": {"bleu": "0 to 1", "nist": "0 up"}})
    {'bleu': 65.93, 'nist': 8.61}
    """
    scales = metrics["scales"]
    return {key: 100 * value if scales[key] == "0 to 1" else value for key, value in metrics["scores"].items()}
