"""Against programs that others wrote, on texts that nobody chose; each is left out where the program is missing."""

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fallow.metrics import caption, ngram, score
from fallow.metrics import tokenizers as cut
from fallow.metrics.corpus import Tokens
from fallow.metrics.edit_distance import BEAM
from fallow.metrics.ptb import ptb_lines
from fallow.metrics.ter import fewest
from fallow.metrics.tokenizers import words
from tests.metrics.odd import corpus

DROPPED = frozenset(("''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"))
"""Of the list of the caption evaluation; its brackets are in capitals, and never come up in lower case."""


def streams(references: Sequence[Sequence[str]], missing: str | None) -> list[list[str | None]]:
    width = max(map(len, references))
    return [[group[n] if n < len(group) else missing for group in references] for n in range(width)]


def rows(references: Sequence[Sequence[str]]) -> list[list[str]]:
    """With an empty line for each missing reference, as files have them."""
    width = max(map(len, references))
    return [[*group, *[""] * (width - len(group))] for group in references]


def metrics() -> Any:
    return pytest.importorskip("sacrebleu.metrics", reason="needs sacrebleu")


@pytest.mark.parametrize("seed", range(4))
def test_edits_of_ter_are_those_of_sacrebleu(seed: int) -> None:
    ter = metrics().TER(normalized=False, no_punct=False, case_sensitive=True)
    hypotheses, references = corpus(seed, 40)
    for hypothesis, group in zip(hypotheses, references, strict=True):
        for reference in group:
            if abs(len(hypothesis.split()) - len(reference.split())) > BEAM:
                continue  # their beam is another than tercom's
            theirs = ter.sentence_score(hypothesis, [reference])
            ours = fewest(hypothesis.split(), [reference.split()])
            assert ours == theirs.num_edits, (hypothesis, reference)


@pytest.mark.parametrize("seed", range(3))
def test_ter_of_letters_with_many_equal_shifts(seed: int) -> None:
    import random

    ter = metrics().TER(case_sensitive=True)
    rng = random.Random(seed)
    for _ in range(60):
        hypothesis, reference = ([rng.choice("abcde") for _ in range(rng.randint(1, 18))] for _ in range(2))
        theirs = ter.sentence_score(" ".join(hypothesis), [" ".join(reference)]).num_edits
        assert fewest(hypothesis, [reference]) == theirs, (hypothesis, reference)


@pytest.mark.parametrize("seed", range(3))
def test_multi_bleu_is_that_of_sacrebleu_with_empty_references(seed: int) -> None:
    bleu = metrics().BLEU(tokenize="none", smooth_method="none", force=True)
    # White space beyond ASCII is none to Perl.
    hypotheses, references = ([*map(ascii_only, texts)] for texts in flat(*corpus(seed, 30)))
    groups = regroup(references, corpus(seed, 30)[1])
    found = score("dart", hypotheses, rows([group[:3] for group in groups]), only=["bleu"]).scores["bleu"]
    theirs = bleu.corpus_score(hypotheses, streams([group[:3] for group in groups], ""))
    assert found == pytest.approx(theirs.score, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("count", [1, 30])
def test_mteval_bleu_is_that_of_sacrebleu(seed: int, count: int) -> None:
    hypotheses, references = (([*map(ascii_only, texts)]) for texts in flat(*corpus(seed, count, empty=False)))
    groups = regroup(references, corpus(seed, count, empty=False)[1])
    found = score("e2e", hypotheses, groups, only=["bleu"]).scores["bleu"]
    theirs = metrics().BLEU(lowercase=True, tokenize="13a", smooth_method="exp", force=True)
    if all(theirs.corpus_score(hypotheses, streams(groups, None)).totals):  # where there are none, they differ by plan
        assert 100 * found == pytest.approx(theirs.corpus_score(hypotheses, streams(groups, None)).score, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_chrf_is_that_of_sacrebleu(seed: int) -> None:
    hypotheses, references = corpus(seed, 20)
    # A no-break space is a character to the challenge, and none to sacrebleu.
    hypotheses = [text.replace("\u00a0", "-") for text in hypotheses]
    references = [[text.replace("\u00a0", "-") for text in group] for group in references]
    ours = ngram.corpus(ngram.chrf_segments(hypotheses, references)[1])
    theirs = metrics().CHRF(word_order=2, eps_smoothing=True).corpus_score(hypotheses, streams(references, None))
    assert 100 * ours == pytest.approx(theirs.score, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_rouge_l_and_cider_are_those_of_the_caption_code(seed: int) -> None:
    theirs_rouge = pytest.importorskip("pycocoevalcap.rouge.rouge", reason="needs pycocoevalcap").Rouge()
    theirs_cider = pytest.importorskip("pycocoevalcap.cider.cider", reason="needs pycocoevalcap").Cider()
    hypotheses, references = corpus(seed, 40)
    tokens = Tokens(
        tuple(text.split() for text in hypotheses), tuple(tuple(t.split() for t in group) for group in references)
    )
    known = {i: [" ".join(text.split()) for text in group] for i, group in enumerate(references)}
    found = {i: [" ".join(text.split())] for i, text in enumerate(hypotheses)}
    assert caption.rouge_l_segments(tokens) == pytest.approx(
        list(theirs_rouge.compute_score(known, found)[1]), abs=1e-12
    )
    assert caption.cider_segments(tokens) == pytest.approx(list(theirs_cider.compute_score(known, found)[1]), abs=1e-9)


@pytest.mark.skipif(
    shutil.which("java") is None or importlib.util.find_spec("pycocoevalcap") is None,
    reason="needs Java and pycocoevalcap",
)
def test_treebank_tokens_are_those_of_the_java_program(tmp_path: Path) -> None:
    spec = importlib.util.find_spec("pycocoevalcap")
    assert spec is not None and spec.submodule_search_locations
    jar = Path(spec.submodule_search_locations[0], "tokenizer", "stanford-corenlp-3.4.1.jar")
    texts = [text for seed in range(8) for group in corpus(seed, 60)[1] for text in group]
    file = tmp_path / "texts"
    file.write_text("\n".join(texts), encoding="utf-8")
    command = ["java", "-Dfile.encoding=UTF-8", "-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer"]
    done = subprocess.run(
        [*command, "-preserveLines", "-lowerCase", str(file)], capture_output=True, encoding="utf-8", check=True
    )
    theirs = [[token for token in line.split(" ") if token not in DROPPED] for line in done.stdout.split("\n")]
    assert ptb_lines(texts) == [[token for token in line if token] for line in theirs[: len(texts)]]


def test_words_are_those_of_nltk() -> None:
    nltk = pytest.importorskip("nltk.tokenize.destructive", reason="needs nltk").NLTKWordTokenizer()
    for seed in range(6):
        for group in corpus(seed, 40)[1]:
            for text in group:
                # Newer versions than the challenge's cut some quotes and dashes otherwise.
                if not re.search(r"(^|\W)'\w|[\u2013\u2014]", text):
                    assert words(text) == nltk.tokenize(text)


def ascii_only(text: str) -> str:
    return " ".join(text.encode("ascii", "ignore").decode().replace("<skipped>", "").split())


def flat(hypotheses: list[str], references: list[list[str]]) -> tuple[list[str], list[str]]:
    return hypotheses, [text for group in references for text in group]


def regroup(texts: list[str], like: list[list[str]]) -> list[list[str]]:
    left = iter(texts)
    return [[next(left) or "x" for _ in group] for group in like]


def test_what_bytes_are_blanks() -> None:
    assert cut.blanks("a\u00a0b\u2003c\td") == ["a\u00a0b\u2003c", "d"]
