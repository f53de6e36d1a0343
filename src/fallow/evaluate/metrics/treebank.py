r"""Words as NLTK 3.5's `word_tokenize` cuts them, on which GenerationEval computes METEOR and TER.

The function first cuts a text into sentences by a trained model, which only moves full stops inside the text: at the
end of a sentence they are cut off. Here a rule takes the model's place, so these full stops may differ: one ends a
sentence, but after a number a capital must follow, and after an initial or an abbreviation a word that often begins a
sentence. Texts that are cut already, as
those of the published pipelines are, give the same words either way.
"""

import re

from fallow.evaluate.metrics.ptb_rules import ABBREVIATIONS, STARTERS

_FIRST = (
    (re.compile("([\u00ab\u201c\u2018\u201e]|`+)"), r" \1 "),
    (re.compile('^"'), "``"),
    (re.compile("(``)"), r" \1 "),
    (re.compile(r"([ (\[{<])(\"|'{2})"), r"\1 `` "),
    (re.compile(r"(?i)(')(?!re|ve|ll|m|t|s|d)(\w)\b"), r"\1 \2"),
    (re.compile("([^.])(\\.)([\\])}>\"'\u00bb\u201d\u2019 ]*)\\s*$"), r"\1 \2 \3 "),
    (re.compile(r"([:,])([^\d])"), r" \1 \2"),
    (re.compile(r"([:,])$"), r" \1 "),
    (re.compile(r"\.{2,}"), r" \g<0> "),
    (re.compile(r"[;@#$%&]"), r" \g<0> "),
    (re.compile(r"([^.])(\.)([\])}>\"']*)\s*$"), r"\1 \2\3 "),
    (re.compile("[?!]"), r" \g<0> "),
    (re.compile("([^'])' "), r"\1 ' "),
    (re.compile("[*]"), r" \g<0> "),
    (re.compile(r"[\]\[(){}<>]"), r" \g<0> "),
    (re.compile("--"), " -- "),
)
_THEN = (
    (re.compile("([\u00bb\u201d\u2019])"), r" \1 "),
    (re.compile('"'), " '' "),
    (re.compile(r"(\S)('')"), r"\1 \2 "),
    (re.compile("([^' ])('[sS]|'[mM]|'[dD]|') "), r"\1 \2 "),
    (re.compile("([^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T) "), r"\1 \2 "),
    (re.compile(r"(?i)\b(can)(not)\b"), r" \1 \2 "),
    (re.compile(r"(?i)\b(d)('ye)\b"), r" \1 \2 "),
    (re.compile(r"(?i)\b(gim)(me)\b"), r" \1 \2 "),
    (re.compile(r"(?i)\b(gon)(na)\b"), r" \1 \2 "),
    (re.compile(r"(?i)\b(got)(ta)\b"), r" \1 \2 "),
    (re.compile(r"(?i)\b(lem)(me)\b"), r" \1 \2 "),
    (re.compile(r"(?i)\b(mor)('n)\b"), r" \1 \2 "),
    (re.compile(r"(?i)\b(wan)(na)\s"), r" \1 \2 "),
    (re.compile(r"(?i) ('t)(is|was)\b"), r" \1 \2 "),
)
_END = re.compile(r"""(?<=[.?!])(["'\u201d\u2019)\]}]*)\s+(?=\S)""")
_NUMBER = re.compile(r"(?:^|[\s(\"'$])\d[\d.,]*\.$")
_SHORT = re.compile(rf"(?:^|[\s(\"'])(?:[A-Za-z]|(?:[A-Za-z]\.)+[A-Za-z]|\.+|(?i:{'|'.join(ABBREVIATIONS)}))\.$")


def treebank(text: str) -> list[str]:
    """The words of a text.

    >>> treebank("Mr. Hu can't go. It's late, isn't it?")
    ['Mr.', 'Hu', 'ca', "n't", 'go', '.', 'It', "'s", 'late', ',', 'is', "n't", 'it', '?']
    """
    return [word for sentence in sentences(text) for word in words(sentence)]


def treebank_lower(text: str) -> list[str]:
    """The words in lower case."""
    return [word.lower() for word in treebank(text)]


def sentences(text: str) -> list[str]:
    """A text cut where a sentence ends by the rule above.

    >>> sentences("It costs $20. He paid. The end")
    ['It costs $20.', 'He paid.', 'The end']
    """
    found, start = [], 0
    for match in _END.finditer(text):
        before, after = text[start : match.start()], text[match.end() :]
        if _SHORT.search(before):
            ends = after.split(maxsplit=1)[0] in STARTERS
        else:
            ends = after[0].isupper() or not _NUMBER.search(before)
        if ends:
            found.append(text[start : match.end(1)])
            start = match.end()
    return [*found, text[start:]]


def words(sentence: str) -> list[str]:
    """The words of one sentence."""
    for pattern, replacement in _FIRST:
        sentence = pattern.sub(replacement, sentence)
    sentence = f" {sentence} "
    for pattern, replacement in _THEN:
        sentence = pattern.sub(replacement, sentence)
    return sentence.split()
