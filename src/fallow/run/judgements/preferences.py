"""Which texts a judge of the user's prefers: those of this stage, or those of another model."""

from pathlib import Path
from typing import Any

from fallow.errors import UserError
from fallow.evaluate.preference.comparison import compare
from fallow.evaluate.preference.judge import Judge
from fallow.evaluate.preference.rate import win_rate
from fallow.evaluate.preference.responses import Pair, read_pairs
from fallow.evaluate.preference.verdicts import Verdicts
from fallow.evaluate.progress import shown
from fallow.evaluate.selection import spread
from fallow.run.finished import Finished
from fallow.run.judgements.texts import TEXTS

VERDICTS = "verdicts.jsonl"
"""In the folder of the stage: every verdict, and what an interrupted comparison goes on from."""


def preferred_texts(finished: Finished) -> dict[str, Any]:
    """The win rate of this stage's texts over the other model's; nothing without a judge."""
    asked = finished.stage.evaluate.preference
    if not asked.judge:
        return {}
    other = Path(asked.against) if asked.is_file else finished.folder.parent / asked.against / TEXTS
    pairs = read_pairs(finished.folder / TEXTS, other)
    pairs = [pairs[i] for i in spread(len(pairs), asked.max_pairs)]
    verdicts = _verdicts(finished.folder / VERDICTS, pairs, asked.judge)
    if len(verdicts) < 2 * len(pairs):
        with Judge(asked.judge, asked.timeout) as judge, shown("verdicts", lines=4) as progress:
            compare(pairs, judge, verdicts, retries=asked.retries, ahead=asked.ahead, progress=progress)
    found = win_rate(pairs, verdicts).to_dict()
    return {"win_rate": found["win_rate"], "preference": {"against": asked.against, "judge": asked.judge, **found}}


def _verdicts(path: Path, pairs: list[Pair], judge: str) -> Verdicts:
    """Those of an earlier attempt, unless they are on other texts or by another judge: the stage was judged anew."""
    try:
        return Verdicts(path, pairs, judge)
    except UserError:
        path.unlink()
        return Verdicts(path, pairs, judge)
