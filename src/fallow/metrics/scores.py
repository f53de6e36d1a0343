"""`score_texts` by a profile: official scores, or sacrebleu's; what was absent and why."""

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fallow.errors import UserError
from fallow.metrics.corpus import AbsentError, build
from fallow.metrics.profiles import find


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """What was measured, by which profile, and what exactly each number is."""

    profile: str
    script: str
    """The official evaluation that the profile reproduces."""

    scores: Mapping[str, float]
    """Metric -> value, on the scale that the official script prints."""

    variants: Mapping[str, str]
    """Metric -> what exactly it is."""

    scales: Mapping[str, str]
    """Metric -> between what its values lie."""

    official: tuple[str, ...]
    """Which of the scores the official evaluation has. The others are given besides."""

    absent: Mapping[str, str]
    """Metric -> why it could not be computed here."""

    num_hypotheses: int
    num_references: int
    """References that were used; empty ones are not counted."""

    num_empty: int
    """Hypotheses without any text."""

    segments: Mapping[str, Sequence[float]]
    """Metric -> the score of each hypothesis, where it was asked for and is defined."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it; segments only where there are some."""
        found: dict[str, Any] = {
            "profile": self.profile,
            "script": self.script,
            "scores": dict(self.scores),
            "variants": dict(self.variants),
            "scales": dict(self.scales),
            "official": list(self.official),
            "absent": dict(self.absent),
            "num_hypotheses": self.num_hypotheses,
            "num_references": self.num_references,
            "num_empty": self.num_empty,
        }
        if self.segments:
            found["segments"] = {key: list(values) for key, values in self.segments.items()}
        return found


def score(
    profile: str,
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    only: Sequence[str] | None = None,
    segments: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Scores:
    """Score texts as the official script of a data set does.

    Scales are those of the scripts: BLEU is 0 to 1 by `e2e` and 0 to 100 by the others. A metric that needs something
    that is not installed is absent, with the reason; nothing takes its place.

    Args:
        profile: `e2e`, `webnlg2017`, `webnlg2020` or `dart`.
        hypotheses: one generated text for each input; it may be empty.
        references: the texts that people wrote for each input, one or more. An empty one stands for an empty line in a
            reference file.
        only: metrics to compute; all of the profile by default. Fewer are faster.
        segments: also the score of each hypothesis, where the official script gives one.
        progress: called with the name of each metric before it is computed.

    Raises:
        UserError: no such profile or metric, numbers that differ, a hypothesis without a reference, no text at all.

    >>> found = score("dart", ["the cat sat on the mat"], [["the cat sat on a mat", ""]], only=["bleu"])
    >>> round(found.scores["bleu"], 2), found.num_references
    (53.73, 1)
    """
    chosen = find(profile)
    metrics = [chosen.metric(key) for key in dict.fromkeys(only)] if only is not None else list(chosen.metrics)
    corpus = build(hypotheses, references, chosen.prepare, chosen.prepare_reference, chosen.max_references)
    values: dict[str, float] = {}
    parts: dict[str, Sequence[float]] = {}
    absent: dict[str, str] = {}
    with _without_collector():
        for metric in metrics:
            if progress is not None:
                progress(metric.key)
            try:
                measured = metric.compute(corpus, segments)
            except AbsentError as reason:
                absent[metric.key] = str(reason)
                continue
            values[metric.key] = measured.value
            if segments:
                parts |= measured.segments
    return Scores(
        profile=chosen.name,
        script=chosen.script,
        scores=values,
        variants={metric.key: metric.variant for metric in metrics if metric.key in values},
        scales={metric.key: metric.scale for metric in metrics if metric.key in values},
        official=tuple(metric.key for metric in metrics if metric.key in values and metric.official),
        absent=absent,
        num_hypotheses=len(corpus.hypotheses),
        num_references=corpus.num_references,
        num_empty=sum(not text for text in corpus.hypotheses),
        segments=parts,
    )


@contextmanager
def _without_collector() -> Iterator[None]:
    """Millions of small objects, none of them in a cycle: looking for cycles takes a tenth of the time."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


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
