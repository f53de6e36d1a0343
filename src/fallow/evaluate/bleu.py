"""Corpus BLEU by sacrebleu."""

from collections.abc import Sequence
from typing import Any

from fallow.errors import UserError


def bleu(hypotheses: Sequence[str], references: Sequence[Sequence[str]], *, lowercase: bool = False) -> dict[str, Any]:
    """Corpus BLEU (0 to 100) and the signature that says how it was computed.

    Args:
        hypotheses: one text for each input; it may be empty.
        references: the accepted texts for each input, one or more; their number may differ from input to input.
        lowercase: compare without case. The signature names it (`case:lc`).

    Returns:
        `bleu` and `signature`, for example `nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0`.

    Raises:
        UserError: the numbers of texts differ, a text has no reference, or sacrebleu is not installed.
    """
    if len(hypotheses) != len(references):
        raise UserError(
            f"BLEU got {len(hypotheses)} texts but references for {len(references)}; the numbers must agree"
        )
    if not hypotheses:
        raise UserError("BLEU needs at least one text, but there are none")
    given = [[reference for reference in group if reference.strip()] for group in references]
    missing = [number for number, group in enumerate(given, 1) if not group]
    if missing:
        raise UserError(f"BLEU needs a reference for each text, but text {missing[0]} has none ({len(missing)} in all)")
    most = max(map(len, given))
    # sacrebleu wants streams: the first reference of every text, the second of every text where there is one, ...
    streams = [[group[n] if n < len(group) else None for group in given] for n in range(most)]
    metric = _metric(lowercase)
    score = metric.corpus_score(list(hypotheses), streams)
    return {"bleu": float(score.score), "signature": str(metric.get_signature())}


def require_sacrebleu() -> None:
    """Refuse at once what could not be scored in the end.

    Raises:
        UserError: sacrebleu is not installed.
    """
    _metric(lowercase=False)


def _metric(lowercase: bool) -> Any:
    try:
        from sacrebleu.metrics import BLEU
    except ModuleNotFoundError as error:
        if error.name != "sacrebleu":
            raise
        raise UserError('BLEU needs the package sacrebleu. Install it: pip install "fallow[eval]"') from error
    return BLEU(lowercase=lowercase)
