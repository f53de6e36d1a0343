"""The evaluations that papers report: which texts are compared how, each named after its script."""

from collections.abc import Callable
from dataclasses import dataclass

from fallow.errors import unknown
from fallow.evaluate.metrics import computations as by
from fallow.evaluate.metrics import tokenizers as cut
from fallow.evaluate.metrics.metric import Metric


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """One official evaluation."""

    name: str
    script: str
    """What it reproduces."""

    metrics: tuple[Metric, ...]
    prepare: Callable[[str], str] = str
    """What the script does to every text before any metric."""

    max_references: int = 0
    """The script reads this many references of each input; 0: all."""

    def metric(self, key: str) -> Metric:
        """One of its metrics.

        Raises:
            UserError: it has none of this name.
        """
        found = {metric.key: metric for metric in self.metrics}
        if key not in found:
            raise unknown(f"metric of profile {self.name}", key, found)
        return found[key]


_EMPTY = "a missing reference is a line of length 0, which may be the closest"
_BEST = "0 to 100"

E2E = Profile(
    name="e2e",
    script="e2e-metrics (measure_scores.py) of the E2E NLG challenge",
    metrics=(
        Metric(
            key="bleu",
            compute=by.mteval_bleu,
            variant="mteval-v13a (Perl), A-Z in lower case, closest reference length; segments by its Python version",
        ),
        Metric(
            key="nist",
            compute=by.mteval_nist,
            variant="mteval-v13a (Perl) of e2e-metrics, 5-grams, A-Z in lower case; segments by its Python version",
            scale="0 up",
        ),
        Metric(
            key="bleu_pymteval",
            compute=by.python_bleu,
            variant="Python version in e2e-metrics (option -p), lower case",
        ),
        Metric(
            key="nist_pymteval",
            compute=by.python_nist,
            variant="Python version in e2e-metrics (option -p), 5-grams, lower case, mean reference length by input",
            scale="0 up",
        ),
    ),
)

WEBNLG2017 = Profile(
    name="webnlg2017",
    script="automatic evaluation of the WebNLG challenge 2017",
    max_references=3,
    metrics=(
        Metric(
            key="bleu",
            compute=by.multi_bleu(cut.blanks_lower),
            variant=f"multi-bleu.perl -lc, at most 3 references; {_EMPTY}",
            scale=_BEST,
        ),
    ),
)

WEBNLG2020 = Profile(
    name="webnlg2020",
    script="GenerationEval of the WebNLG challenge 2020",
    metrics=(
        Metric(
            key="bleu",
            compute=by.multi_bleu(cut.mteval13a_bytes),
            variant=f"multi-bleu-detok.perl (mteval-v13a tokens), case kept; {_EMPTY}",
            scale=_BEST,
        ),
    ),
)

DART = Profile(
    name="dart",
    script="evaluation of DART v1.1.1 (run_eval_on_dart.sh)",
    max_references=3,
    metrics=(
        Metric(
            key="bleu",
            compute=by.multi_bleu(cut.blanks),
            variant=f"multi-bleu.perl, case kept, at most 3 references; {_EMPTY}",
            scale=_BEST,
        ),
    ),
)

PROFILES = {profile.name: profile for profile in (E2E, WEBNLG2017, WEBNLG2020, DART)}
"""Profiles by name."""


def find(name: str) -> Profile:
    """The profile of this name.

    Raises:
        UserError: there is none.
    """
    if name not in PROFILES:
        raise unknown("profile", name, PROFILES)
    return PROFILES[name]
