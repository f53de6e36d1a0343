"""From a corpus to a number: each function is one official computation with its tokens."""

from collections.abc import Callable

from fallow.evaluate.metrics import bleu, nist
from fallow.evaluate.metrics import tokenizers as cut
from fallow.evaluate.metrics.corpus import Corpus, Tokenizer
from fallow.evaluate.metrics.metric import Measured

Compute = Callable[[Corpus, bool], Measured]


def mteval_bleu(corpus: Corpus, segments: bool) -> Measured:
    """mteval-v13a of e2e-metrics; the scores of segments are by its Python version, as in the official file."""
    value = bleu.mteval(bleu.added(bleu.statistics(corpus.tokens(cut.e2e_perl))))
    if not segments:
        return Measured(value)
    parts = bleu.statistics(corpus.tokens(cut.e2e_python), signed=True)
    return Measured(
        value,
        {
            "bleu": [bleu.pymteval(part) for part in parts],
            "sent_bleu": [bleu.pymteval(part, smoothing=1.0) for part in parts],
        },
    )


def python_bleu(corpus: Corpus, segments: bool) -> Measured:
    """The Python version in e2e-metrics (option -p)."""
    return Measured(bleu.pymteval(bleu.added(bleu.statistics(corpus.tokens(cut.e2e_python), signed=True))))


def mteval_nist(corpus: Corpus, segments: bool) -> Measured:
    """mteval-v13a of e2e-metrics; the scores of segments are by its Python version, as in the official file."""
    tokens = corpus.tokens(cut.e2e_perl)
    value = nist.mteval(nist.statistics(tokens, nist.information(tokens, quirk=True)))
    if not segments:
        return Measured(value)
    return Measured(value, {"nist": nist.segments(corpus.tokens(cut.e2e_python))})


def python_nist(corpus: Corpus, segments: bool) -> Measured:
    """The Python version in e2e-metrics (option -p)."""
    tokens = corpus.tokens(cut.e2e_python)
    return Measured(nist.pymteval(nist.statistics(tokens, nist.information(tokens, quirk=False), signed=True)))


def multi_bleu(tokenizer: Tokenizer) -> Compute:
    """multi-bleu.perl after a tokenizer, 0 to 100; a missing reference is an empty line."""

    def compute(corpus: Corpus, segments: bool) -> Measured:
        parts = bleu.statistics(corpus.tokens(tokenizer), width=corpus.width)
        return Measured(100 * bleu.multi_bleu(bleu.added(parts)))

    return compute
