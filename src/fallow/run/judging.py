"""What a finished model is worth."""

from typing import Any

from fallow.run.finished import Finished
from fallow.run.judgements import JUDGEMENTS


def judge(finished: Finished) -> dict[str, Any]:
    """Everything that can be measured of a merged model; see `fallow.run.judgements`.

    Pairs are judged on their test set; without one, on the validation set, which the record says.
    """
    scores: dict[str, Any] = {}
    for judgement in JUDGEMENTS:
        scores |= judgement(finished)
    return scores
