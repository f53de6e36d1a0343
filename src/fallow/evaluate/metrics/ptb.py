r"""Penn Treebank tokens as the caption evaluation makes them, which ROUGE-L, CIDEr and METEOR of e2e-metrics compare.

The evaluation calls a Java program, the PTBTokenizer of Stanford CoreNLP 3.4.1, puts what it gives in lower case, and
drops 19 punctuation tokens. This module gives the same tokens without it. It was written from the public conventions of
the treebank and from what that program answers to probes: several hundred thousand lines of system outputs, of texts
damaged at random, and of every character of Unicode's first plane. docs/metrics.md says how often the two differ.

At each place every rule is tried, and the longest match wins, of equal ones the first. Rules read the *shape* of a
text: a letter beyond ASCII is one placeholder, so is a symbol, and what the program drops is a third.

Peculiar, and kept: pounds become #, and euros $; brackets stay as -lrb- and -rrb-, since only the spelling in capitals
is dropped; a fraction after a number is one token with a no-break space in it.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence

from fallow.evaluate.metrics.ptb_rules import CROSSING, END, LETTER, MARK, NOTHING, RULES, STARTERS, TAG

DROPPED = frozenset(("''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"))
"""What the evaluation drops. Its list also has the brackets in capitals, which never come up in lower case."""

_SPACE = re.compile("[ \t\n\r\f\v\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")
_PLAIN = re.compile("[a-z]+")
_WHOLE = frozenset(("cannot", "gonna", "gotta", "lemme", "gimme", "wanna"))

_SPECIAL = {
    **dict.fromkeys("\u2018\u201b\u2039\x91", "\u2018"),
    **dict.fromkeys("\u2019\u203a\x92", "\u2019"),
    **dict.fromkeys("\u201c\u00ab\x93", "\u201c"),
    **dict.fromkeys("\u201d\u00bb\x94", "\u201d"),
    **dict.fromkeys("\u2013\u2014\u2015\x96\x97", "\u2014"),
    **dict.fromkeys("\u20ac\u20a0\u00a4\x80", "\u20ac"),
    **{character: character for character in "\u2026\u00a2\u00a3\u00bc\u00bd\u00be\u2153\u2154"},
    **dict.fromkeys("\u00b9\u00b2\u00b3\u2070\u2074\u2075\u2076\u2077\u2078\u2079", "\u00b2"),
}
_SYMBOLS = (
    "a1 a5-a9 ac ae-b4 b6-b9 bf d7 f7 37e 387 589 5be 5c0 5c3 5c6 5f3-5f4 600-603 606-60c 614 61b 61e-61f 66a 66d "
    "6d4 700-70d 7f6-7f8 964-965 e3f e4f 1fbd 2016-2017 201a 201e-2023 2030-2038 203b 203e-2042 2044 2070 "
    "2074-207e 2080-208e 20a4 2100-2101 2103-2106 2108-2109 2114 2116-2118 211e-2123 2125 2127 2129 212e "
    "213a-213b 2140-2144 214a-214d 214f 2155-215e 2190-2bff 3001-3002 3012 30fb ff01-ff0f ff1a-ff20 ff3b-ff40 "
    "ff5b-ff65 ffe0-ffe1 ffe5-ffe6"
)
_RANGES = [
    (int(first, 16), int(last or first, 16)) for first, _, last in (part.partition("-") for part in _SYMBOLS.split())
]


class _Shapes(dict[int, str]):
    """Character -> its shape, found when it is first met."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if code < 128 or character in _SPECIAL:
            shape = _SPECIAL.get(character, character)
        elif any(first <= code <= last for first, last in _RANGES):
            shape = MARK
        elif code <= 0xFFFF and _is_letter(character):
            shape = LETTER
        else:
            shape = NOTHING
        self[code] = shape
        return shape


def _is_letter(character: str) -> bool:
    # Hyphens that do not break, and modifiers, stand inside words.
    if character in "\u2010\u2011" or "\u02c2" <= character <= "\u036f":
        return True
    return character.isalpha() or unicodedata.category(character) in ("Mn", "Mc", "Nd")


_SHAPES = _Shapes()
_known: dict[tuple[str, str], list[str]] = {}


def ptb_lines(lines: Sequence[str]) -> list[list[str]]:
    """The tokens of the lines of one file. A line that ends in an initial depends on how the next one begins."""
    return [_line(line, lines, number + 1) for number, line in enumerate(lines)]


def ptb(text: str) -> list[str]:
    """The tokens of one line that stands alone.

    >>> ptb("It's a 5-star (or 1/2?) pub near Mr. Hu's, for less than 20.")
    ['it', "'s", 'a', '5-star', '-lrb-', 'or', '1/2', '-rrb-', 'pub', 'near', 'mr.', 'hu', "'s", 'for', ...]
    """
    return _line(text, (), 0)


def _line(text: str, lines: Sequence[str], following: int) -> list[str]:
    found: list[str] = []
    words = _words(text.replace("\xad", ""))
    for place, word in enumerate(words):
        if _PLAIN.fullmatch(word) and word not in _WHOLE:
            found.append(word)
            continue
        after = _after(words[place + 1 :], lines, following) if word[-1] == "." else " "
        key = (word, after)
        if key not in _known:
            if len(_known) > 100_000:
                _known.clear()
            # Java puts a text in lower case as Python does.
            _known[key] = [token for token in map(str.lower, _scan(word, after)) if token not in DROPPED]
        found += _known[key]
    return found


def _words(text: str) -> list[str]:
    """Cut at white space, but where a token may hold some."""
    shape = text.translate(_SHAPES)
    if not CROSSING.search(shape):
        return [word for word in _SPACE.split(text) if word]
    held = [match.span() for match in CROSSING.finditer(shape)]
    found, start = [], 0
    for space in _SPACE.finditer(text):
        if not any(first <= space.start() < last for first, last in held):
            found.append(text[start : space.start()])
            start = space.end()
    return [word for word in (*found, text[start:]) if word]


def _after(words: Sequence[str], lines: Sequence[str], following: int) -> str:
    """What stands after a word with a full stop, as far as it matters: the sentence ends, a number follows, or else."""
    near = True
    if not words:
        number = next((number for number in range(following, len(lines)) if lines[number]), None)
        if number is None:
            return " "
        near, words, following = number == following, lines[number].split(), number + 1
    # White space belongs to the sign that a sentence begins, and there is none at the end of a file.
    starts = words[0] in STARTERS or (words[0].isupper() and words[0].capitalize() in STARTERS)
    if (starts and (words[1:] or following < len(lines))) or TAG.match(words[0]):
        return END
    return " 0" if near and "0" <= words[0][0] <= "9" else " "


def _scan(text: str, after: str) -> Iterator[str]:
    shape = text.translate(_SHAPES) + after
    place = 0
    while place < len(text):
        best, rule = None, None
        for candidate in RULES:
            match = candidate.pattern.match(shape, place)
            if match and match.end(1) > place and (best is None or match.end() > best.end()):
                best, rule = match, candidate
        if best is None or rule is None:
            place += 1  # white space, or a character that the program drops
            continue
        yield from rule.write(text[place : best.end(1)])
        place = best.end(1)
