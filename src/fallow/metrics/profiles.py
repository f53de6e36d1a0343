"""The evaluations that papers report: which texts are compared how, each named after its script."""

from collections.abc import Callable
from dataclasses import dataclass

from fallow.errors import unknown
from fallow.metrics import computations as by
from fallow.metrics import tokenizers
from fallow.metrics import tokenizers as cut
from fallow.metrics.corpus import Metric, Tokenizer
from fallow.metrics.tokenizers import treebank, treebank_lower


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """One official evaluation."""

    name: str
    script: str
    """What it reproduces."""

    metrics: tuple[Metric, ...]
    prepare: Callable[[str], str] = str
    """What the script does to a hypothesis before any metric."""

    prepare_reference: Callable[[str], str] = str
    """What it does to a reference."""

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
_TERCOM = "tercom 0.7.25, without case: edits by mean reference lengths, both summed over texts"
_MINIMA = "mean over texts of the lowest pyter rate, an empty reference counts 1"
_CHRF = "chrF++ of GenerationEval: characters to 6, words to 2, beta 2"
_FILE_METEOR = "METEOR 1.5 (-l en -norm), final score from files"


def _besides(tokenizer: Tokenizer) -> tuple[Metric, ...]:
    """What the challenges on triples do not report."""
    where = "blanks cut tokens, lower case" if tokenizer is cut.tercom_words else "NLTK words, lower case"
    return (
        Metric(
            key="nist",
            compute=by.plain_nist(tokenizer),
            variant=f"NIST of the Python version in e2e-metrics, 5-grams; {where}",
            scale="0 up",
            official=False,
        ),
        Metric(
            key="rouge_l",
            compute=by.plain_rouge_l(tokenizer),
            variant=f"coco-caption: best precision, best recall, beta 1.2; {where}, punctuation kept",
            official=False,
        ),
        Metric(
            key="cider",
            compute=by.plain_cider(tokenizer),
            variant=f"coco-caption CIDEr-D, sigma 6, frequencies of these references; {where}, punctuation kept",
            scale="0 to 10",
            official=False,
        ),
        Metric(key="chrf", compute=by.chrf_plus_plus, variant=_CHRF, official=False),
        Metric(
            key="ter_webnlg2020",
            compute=by.mean_of_minima(tokenizer),
            variant=f"{_MINIMA}; {where}",
            scale="0 up",
            official=False,
        ),
    )


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
            key="meteor",
            compute=by.caption_meteor,
            variant="METEOR 1.5 (-l en -norm), aggregated, on Penn Treebank tokens without punctuation",
        ),
        Metric(
            key="rouge_l",
            compute=by.caption_rouge_l,
            variant="coco-caption: best precision, best recall, beta 1.2, on Penn Treebank tokens without punctuation",
        ),
        Metric(
            key="cider",
            compute=by.caption_cider,
            variant="coco-caption CIDEr-D, sigma 6, frequencies of these references, on the same tokens as rouge_l",
            scale="0 to 10",
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
        Metric(
            key="ter",
            compute=by.tercom(cut.e2e_perl),
            variant=f"{_TERCOM}; mteval-v13a tokens",
            scale="0 up",
            official=False,
        ),
        Metric(key="chrf", compute=by.chrf_plus_plus, variant=_CHRF, official=False),
    ),
)

WEBNLG2017 = Profile(
    name="webnlg2017",
    script="automatic evaluation of the WebNLG challenge 2017",
    prepare=tokenizers.hypothesis,
    prepare_reference=tokenizers.reference,
    max_references=3,
    metrics=(
        Metric(
            key="bleu",
            compute=by.multi_bleu(cut.blanks_lower),
            variant=f"multi-bleu.perl -lc, at most 3 references; {_EMPTY}",
            scale="0 to 100",
        ),
        Metric(key="meteor", compute=by.file_meteor(), variant=f"{_FILE_METEOR}, at most 3 references"),
        Metric(
            key="ter", compute=by.tercom(cut.tercom_words), variant=f"{_TERCOM}; at most 3 references", scale="0 up"
        ),
        *_besides(cut.tercom_words),
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
            scale="0 to 100",
        ),
        Metric(
            key="bleu_nltk",
            compute=by.nltk_bleu(treebank),
            variant="NLTK's corpus_bleu, smoothing of method 3, NLTK words (sentences cut by rule), case kept",
        ),
        Metric(
            key="meteor",
            compute=by.file_meteor(tokenizer=treebank),
            variant=f"{_FILE_METEOR} of NLTK words (sentences cut by rule)",
        ),
        Metric(key="chrf", compute=by.chrf_plus_plus, variant=_CHRF),
        Metric(
            key="ter_webnlg2020",
            compute=by.mean_of_minima(treebank),
            variant=f"{_MINIMA}; NLTK words (sentences cut by rule), case kept. The script prints it as TER",
            scale="0 up",
        ),
        Metric(
            key="ter",
            compute=by.tercom(treebank_lower),
            variant=f"{_TERCOM}; NLTK words (sentences cut by rule)",
            scale="0 up",
            official=False,
        ),
        *_besides(treebank_lower)[:3],
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
            scale="0 to 100",
        ),
        Metric(key="meteor", compute=by.file_meteor(8), variant=f"{_FILE_METEOR}, at most 3 references and 5 empty"),
        Metric(
            key="ter", compute=by.tercom(cut.tercom_words), variant=f"{_TERCOM}; at most 3 references", scale="0 up"
        ),
        *_besides(cut.tercom_words),
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
