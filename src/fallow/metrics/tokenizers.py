"""Tokenizers of mteval, e2e, tercom, Penn Treebank (NLTK)."""

import re
import string
import unicodedata

_APART = re.compile(r"(\W)")


_MAYBE = re.compile("[^\x00-\x7f]")


_TO_ASCII = {
    "\xa1": "!", "\xa3": "PS", "\xa7": "SS", "\xa9": "(c)", "\xab": "<<", "\xad": "", "\xae": "(r)", "\xb0": "deg",
    "\xb1": "+-", "\xb4": "'", "\xb5": "u", "\xb7": "*", "\xbb": ">>", "\xbc": " 1/4", "\xbd": " 1/2", "\xbe": " 3/4",
    "\xbf": "?", "\xc6": "AE", "\xd0": "D", "\xd7": "x", "\xd8": "O", "\xde": "Th", "\xdf": "ss", "\xe6": "ae",
    "\xf0": "d", "\xf7": "/", "\xf8": "o", "\xfe": "th", "\u0110": "D", "\u0111": "d", "\u0126": "H", "\u0127": "h",
    "\u0131": "i", "\u0141": "L", "\u0142": "l", "\u014a": "NG", "\u014b": "ng", "\u0152": "OE", "\u0153": "oe",
    "\u018f": "@", "\u0259": "@", "\u1e9e": "SS", "\u200b": " ", "\u200c": "", "\u200d": "", "\u200e": "",
    "\u200f": "", "\u2010": "-", "\u2011": "-", "\u2012": "-", "\u2013": "-", "\u2014": "--", "\u2015": "--",
    "\u2018": "'", "\u2019": "'", "\u201a": ",", "\u201b": "'", "\u201c": '"', "\u201d": '"', "\u201e": ",,",
    "\u2020": "+", "\u2022": "*", "\u2026": "...", "\u2032": "'", "\u2033": "''", "\u2039": "<", "\u203a": ">",
    "\u2044": "/", "\u20ac": "EUR", "\u2122": "(tm)", "\u2190": "-", "\u2192": "-", "\u2212": "-",
}  # fmt: skip


def ascii_letters(text: str) -> str:
    r"""Letters without their marks, and the usual signs, in ASCII.

    Differs from the script, which uses a table of all Unicode: other scripts than Latin, and rare signs, stay as they
    are. Every text of the challenge's data comes out the same.

    >>> ascii_letters("Stra\u00dfe \u2013 caf\u00e9")
    'Strasse - cafe'
    """
    return _MAYBE.sub(lambda match: _one(match.group()), text)


def _one(character: str) -> str:
    if character in _TO_ASCII:
        return _TO_ASCII[character]
    plain = "".join(part for part in unicodedata.normalize("NFKD", character) if not unicodedata.combining(part))
    return _TO_ASCII.get(plain, plain)


def hypothesis(text: str) -> str:
    r"""A generated text: ASCII, lower case, every character but letters, digits and _ on its own.

    >>> hypothesis("Madrid\u2013Barajas, 18L/36R")
    'madrid - barajas , 18l / 36r'
    """
    return _cut(ascii_letters(ascii_letters(text).lower()))


def reference(text: str) -> str:
    """A reference: the same, but cut before its signs become ASCII, so that three dots of one sign stay together."""
    return ascii_letters(_cut(text).lower())


def _cut(text: str) -> str:
    return " ".join(" ".join(_APART.split(text)).split())


_TO_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


# What Perl and Java take as white space: in bytes, and in decoded text.
ASCII_BLANKS = " \t\n\r\f\v"


UNICODE_BLANKS = ASCII_BLANKS + "\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"


_ASCII_BLANK = re.compile(f"[{ASCII_BLANKS}]+")


_UNICODE_BLANK = re.compile(f"[{UNICODE_BLANKS}]+")


_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))


_SYMBOLS = str.maketrans({symbol: f" {symbol} " for symbol in ' !"#$%&()*+:;<=>?@[\\]^_`{|}~/'})


_POINT_AFTER = re.compile(r"([^0-9])([.,])")


_POINT_BEFORE = re.compile(r"([.,])([^0-9])")


_DASH = re.compile(r"([0-9])(-)")


def lower_ascii(text: str) -> str:
    r"""A to Z in lower case and nothing else, as Perl does with bytes and `tr`.

    >>> lower_ascii("CAF\u00c9") == "caf\u00c9"
    True
    """
    return text.translate(_TO_LOWER)


def blanks(text: str) -> list[str]:
    r"""Cut at ASCII white space, as multi-bleu and tercom do: a no-break space stays inside its token.

    >>> blanks(" 10 km\u00a0away ") == ["10", "km\u00a0away"]
    True
    """
    return [token for token in _ASCII_BLANK.split(text) if token]


def mteval13a(text: str, *, ascii_blanks: bool = False) -> list[str]:
    """The tokens of mteval-v13a, case kept.

    Four entities become characters; ASCII symbols stand alone; a full stop or comma stands alone unless digits are on
    both sides; a dash is cut off after a digit. Other characters than ASCII are never cut.

    Args:
        text: one line.
        ascii_blanks: cut at ASCII white space only, as the script does when it reads bytes (multi-bleu-detok); else at
            all of Unicode's, as it does when it decodes (mteval).

    >>> mteval13a("It's 3.50-4, i.e. cheap.")
    ["It's", '3.50', '-', '4', ',', 'i', '.', 'e', '.', 'cheap', '.']
    """
    text = text.replace("<skipped>", "")
    for entity, character in _ENTITIES:
        text = text.replace(entity, character)
    text = f" {text} ".translate(_SYMBOLS)
    text = _POINT_AFTER.sub(r"\1 \2 ", text)
    text = _POINT_BEFORE.sub(r" \1 \2", text)
    text = _DASH.sub(r"\1 \2 ", text)
    blank = _ASCII_BLANK if ascii_blanks else _UNICODE_BLANK
    return [token for token in blank.split(text) if token]


def e2e_perl(text: str) -> list[str]:
    """mteval-v13a without case: A to Z only.

    >>> e2e_perl("The cafe, HERE.")
    ['the', 'cafe', ',', 'here', '.']
    """
    return mteval13a(lower_ascii(text))


def e2e_python(text: str) -> list[str]:
    """The Python version in e2e-metrics: every letter in lower case, and an empty text is one empty token.

    >>> e2e_python("The cafe, HERE."), e2e_python("")
    (['the', 'cafe', ',', 'here', '.'], [''])
    """
    return [token.lower() for token in mteval13a(text)] or [""]


def blanks_lower(text: str) -> list[str]:
    """As `blanks`, A to Z in lower case (multi-bleu with -lc)."""
    return blanks(lower_ascii(text))


def tercom_words(text: str) -> list[str]:
    """As `blanks`, every letter in lower case (tercom without -s)."""
    return blanks(text.lower())


def mteval13a_bytes(text: str) -> list[str]:
    """As `mteval13a`, cut at ASCII white space (multi-bleu-detok)."""
    return mteval13a(text, ascii_blanks=True)


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
