"""From a corpus to a number: each function is one official computation with its tokens."""

import math
from collections.abc import Callable, Sequence

from fallow.errors import UserError
from fallow.metrics import caption, meteor, ngram, ter
from fallow.metrics import ter as pyter
from fallow.metrics import tokenizers as cut
from fallow.metrics.corpus import Corpus, Measured, Tokenizer, Tokens
from fallow.metrics.ptb import ptb_lines

Compute = Callable[[Corpus, bool], Measured]


def mteval_bleu(corpus: Corpus, segments: bool) -> Measured:
    """mteval-v13a of e2e-metrics; the scores of segments are by its Python version, as in the official file."""
    value = ngram.bleu_mteval(ngram.added(_bleu_statistics(corpus, cut.e2e_perl)))
    if not segments:
        return Measured(value)
    parts = _bleu_statistics(corpus, cut.e2e_python)
    return Measured(
        value,
        {
            "bleu": [ngram.bleu_pymteval(part) for part in parts],
            "sent_bleu": [ngram.bleu_pymteval(part, smoothing=1.0) for part in parts],
        },
    )


def python_bleu(corpus: Corpus, segments: bool) -> Measured:
    """The Python version in e2e-metrics (option -p)."""
    return Measured(ngram.bleu_pymteval(ngram.added(_bleu_statistics(corpus, cut.e2e_python))))


def multi_bleu(tokenizer: Tokenizer) -> Compute:
    """multi-bleu.perl after a tokenizer, 0 to 100; a missing reference is an empty line."""

    def compute(corpus: Corpus, segments: bool) -> Measured:
        parts = ngram.bleu_statistics(corpus.tokens(tokenizer), width=corpus.width)
        return Measured(100 * ngram.multi_bleu(ngram.added(parts)))

    return compute


def nltk_bleu(tokenizer: Tokenizer) -> Compute:
    """NLTK's corpus BLEU after a tokenizer; empty references are left out."""
    return lambda corpus, segments: Measured(ngram.nltk(_bleu_statistics(corpus, tokenizer)))


def mteval_nist(corpus: Corpus, segments: bool) -> Measured:
    """mteval-v13a of e2e-metrics; the scores of segments are by its Python version, as in the official file."""
    value = ngram.nist_mteval(_nist_statistics(corpus, cut.e2e_perl, quirk=True))
    if not segments:
        return Measured(value)
    return Measured(value, {"nist": ngram.nist_segments(corpus.tokens(cut.e2e_python))})


def python_nist(corpus: Corpus, segments: bool) -> Measured:
    """The Python version in e2e-metrics (option -p)."""
    return Measured(ngram.nist_pymteval(_nist_statistics(corpus, cut.e2e_python, quirk=False)))


def plain_nist(tokenizer: Tokenizer) -> Compute:
    """The Python version after another tokenizer."""

    def compute(corpus: Corpus, segments: bool) -> Measured:
        return Measured(ngram.nist_pymteval(_nist_statistics(corpus, tokenizer, quirk=False)))

    return compute


def caption_rouge_l(corpus: Corpus, segments: bool) -> Measured:
    """On the tokens of the caption evaluation."""
    return _mean("rouge_l", caption.rouge_l_segments(corpus.tokens_of_lines(ptb_lines)))


def caption_cider(corpus: Corpus, segments: bool) -> Measured:
    """On the tokens of the caption evaluation, cut once more at the blanks that a few of them hold."""
    tokens = corpus.tokens_of_lines(ptb_lines)
    return _mean("cider", caption.cider_segments(_blanks_cut(tokens)))


def caption_meteor(corpus: Corpus, segments: bool) -> Measured:
    """On the tokens of the caption evaluation, line by line."""
    tokens = corpus.tokens_of_lines(ptb_lines)
    value, parts = meteor.lines(
        [" ".join(text) for text in tokens.hypotheses],
        [[" ".join(text) for text in group] for group in tokens.references],
    )
    return Measured(value, {"meteor": parts})


def plain_rouge_l(tokenizer: Tokenizer) -> Compute:
    """After another tokenizer."""
    return lambda corpus, segments: _mean("rouge_l", caption.rouge_l_segments(corpus.tokens(tokenizer)))


def plain_cider(tokenizer: Tokenizer) -> Compute:
    """After another tokenizer."""
    return lambda corpus, segments: _mean("cider", caption.cider_segments(corpus.tokens(tokenizer)))


def file_meteor(width: int = 0, tokenizer: Tokenizer | None = None) -> Compute:
    """From files with `width` references of each text (0: as many as there are), after a tokenizer or as they are."""

    def compute(corpus: Corpus, segments: bool) -> Measured:
        hypotheses: Sequence[str] = corpus.hypotheses
        references: Sequence[Sequence[str]] = corpus.references
        if tokenizer is not None:
            tokens = corpus.tokens(tokenizer)
            hypotheses = [" ".join(text) for text in tokens.hypotheses]
            references = [[" ".join(text) for text in group] for group in tokens.references]
        value, parts = meteor.files(hypotheses, references, width or corpus.width)
        return Measured(value, {"meteor": parts})

    return compute


def tercom(tokenizer: Tokenizer) -> Compute:
    """Edits of all texts by the sum of mean reference lengths; a text has its own edits by its own mean length."""

    def compute(corpus: Corpus, segments: bool) -> Measured:
        parts = ter.tercom_segments(corpus.tokens(tokenizer))
        bare = next((number for number, (_, length) in enumerate(parts, 1) if not length), 0)
        if bare:
            raise UserError(
                f"hypothesis {bare} has no reference with a word in it, as TER cuts texts: TER divides by "
                "their number. Write a reference, or name the other metrics: --metrics bleu ..."
            )
        value = sum(edits for edits, _ in parts) / math.fsum(length for _, length in parts)
        return Measured(value, {"ter": [edits / length for edits, length in parts]})

    return compute


def mean_of_minima(tokenizer: Tokenizer) -> Compute:
    """What GenerationEval calls TER; an empty reference is one edit a word."""
    return lambda corpus, segments: _mean(
        "ter_webnlg2020", pyter.pyter_segments(corpus.tokens(tokenizer), corpus.width)
    )


def chrf_plus_plus(corpus: Corpus, segments: bool) -> Measured:
    """On the texts as they are."""
    parts, counts = ngram.chrf_segments(corpus.hypotheses, corpus.references)
    return Measured(ngram.corpus(counts), {"chrf": parts})


def _mean(key: str, parts: Sequence[float]) -> Measured:
    return Measured(math.fsum(parts) / len(parts), {key: parts})


def _bleu_statistics(corpus: Corpus, tokenizer: Tokenizer) -> list[ngram.BleuStatistics]:
    tokens = corpus.tokens(tokenizer)
    return corpus.once(("bleu", id(tokens)), lambda: ngram.bleu_statistics(tokens))


def _nist_statistics(corpus: Corpus, tokenizer: Tokenizer, *, quirk: bool) -> list[ngram.NistStatistics]:
    tokens = corpus.tokens(tokenizer)
    if not any(text for group in tokens.references for text in group):
        raise UserError(
            "no reference has a word in it, as NIST cuts texts, and NIST divides by their number. Write a reference, "
            "or name the other metrics: --metrics bleu ..."
        )
    # The quirk is one of texts with a token 0.
    quirk = quirk and any("0" in text for group in tokens.references for text in group)
    return corpus.once(
        ("nist", id(tokens), quirk), lambda: ngram.nist_statistics(tokens, ngram.information(tokens, quirk=quirk))
    )


def _blanks_cut(tokens: Tokens) -> Tokens:
    def again(text: list[str]) -> list[str]:
        return " ".join(text).split() if any("\xa0" in token for token in text) else text

    return Tokens(tuple(map(again, tokens.hypotheses)), tuple(tuple(map(again, group)) for group in tokens.references))
