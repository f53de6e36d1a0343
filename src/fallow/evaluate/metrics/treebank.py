r"""Words as NLTK 3.5's `word_tokenize` cuts them, on which GenerationEval computes METEOR and TER.

The function first cuts a text into sentences by a trained model (Kiss and Strunk, 2006), which only moves full stops:
at the end of a sentence they are cut off. Here are the model's abbreviations and the words that it holds to begin
sentences, but not its 20,000 words with their spelling, so a full stop between an abbreviation and a capital may
differ. Texts that are cut already, as those of the published pipelines are, give the same words either way.
"""

import re

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
_STOP = re.compile(r"""\S*[.?!](?=[?!)";}\]*:@'({\[]|\s+(\S+))""")
_CLOSING = re.compile(r"""["')\]}]+?(?:\s+|(?=--)|$)""")
_NUMBER = re.compile(r"[-$]?[\d.,]*\d[\d.,]*")
_abbreviations = (
    "a.a a.c a.d a.g a.h a.m a.m.e a.s a.t adm ala ariz aug ave b.f b.v bros c.i.t c.o.m.b c.v calif chg cie co col "
    "colo conn corp cos ct d.c d.h d.w dec dr e.f e.h e.l e.m f.g f.j feb fla fri ft g.d g.f g.k ga gen h.c h.f h.m "
    "i.m.s ill inc j.b j.c j.j j.k j.p j.r jan jr kan ky l.a l.f l.p lt ltd m.b.a m.d.c m.j maj messrs mg mich minn "
    "mr mrs ms n.c n.d n.h n.j n.m n.v n.y nev nov oct ok okla ore p.a.m p.m pa ph.d prof r.a r.h r.i r.j r.k r.t rep "
    "reps s.a s.a.y s.c s.g s.p.a s.s sen sep sept sr st sw t.j tenn tues u.k u.n u.s u.s.a u.s.s.r va vs vt w.c w.r "
    "w.va w.w wash wed wis yr"
)
_ABBREVIATIONS = frozenset(_abbreviations.split())
_starters = (
    "according although among both but despite even he however i if in indeed instead it many meanwhile moreover most "
    "nevertheless nonetheless nor sales separately similarly since so some the there these they this though thus under "
    "when while yet"
)
_STARTERS = frozenset(_starters.split())


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
    ['It costs $20. ', 'He paid. ', 'The end']
    """
    found, start = [], 0
    for stop in _STOP.finditer(text):
        word, following = stop.group(), stop.group(1) or text[stop.end()]
        if word[-1] == "." and not _ends(word[:-1].lstrip("([{\"'`"), following):
            continue
        end = begin = stop.end() if stop.group(1) is None else stop.start(1)
        if closing := _CLOSING.match(text, begin):  # belongs to the sentence before it
            end = begin = closing.end()
        found.append(text[start:end])
        start = begin
    return [*found, text[start:]]


def _ends(word: str, following: str) -> bool:
    """Whether the full stop after a word ends a sentence."""
    if _NUMBER.fullmatch(word):
        return not following[0].islower() and following[0] not in ";:,.!?"
    if len(word) == 1 and word in "cdefghklmnprstvwCDEFGHKLMNPRSTVW":
        return False  # abbreviations that are taken as initials
    if (len(word) == 1 and word.isalpha()) or word.endswith(".") or word.lower().rpartition("-")[2] in _ABBREVIATIONS:
        return following[0].isupper() and following.lower() in _STARTERS
    return True


def words(sentence: str) -> list[str]:
    """The words of one sentence."""
    for pattern, replacement in _FIRST:
        sentence = pattern.sub(replacement, sentence)
    sentence = f" {sentence} "
    for pattern, replacement in _THEN:
        sentence = pattern.sub(replacement, sentence)
    return sentence.split()
