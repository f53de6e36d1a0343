"""Stanford PTB tokens of the caption evaluation, and its rules."""

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

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


LETTER, MARK, NOTHING, END = "\ue000", "\ue001", "\ue002", "\ue003"
"""Shapes of a letter beyond ASCII, of a symbol that stands alone, of what is dropped, and of the end of a sentence."""


_starters = (
    "A About According Additionally After An As At But Earlier He Her Here However If In It Last Many More Now "
    "Once One Other Our She Since So Some Such That The Their Then There These They This We What When While Yet "
    "You"
)


STARTERS = frozenset(_starters.split())
"""Words that, with their capital, show that a full stop before them ended a sentence."""


_abbreviations = (
    "adj adm adv al ala alex apr ariz assn assoc asst atty attys aug ave bancorp bhd bldg blvd brig bros calif "
    "capt cf cie cmdr co col colo comdr conn corp cos cpl ct dak dec dept det dr drs elec ens esq est etc ext feb "
    "fla fri ft ga gen gov govs hon inc ind insp intl invt jan jos jr jul jun kan kans ky lieut lt ltd maj mar md "
    "messrs mfg mich minn mlle mme mo mon mont mr mrs ms msgr mt mtg natl neb nev nov oct okla penn pfc ph plc "
    "ppte pptes ppty pptys pres prof profs pte ptes pty ptys pvt rd rep reps rev rt sen sens sep sept seq sfc sgt "
    "spc sq sr st ste supt supts sys tel tenn thu thurs treas tue tues univ va vs vt wed wis wisc wm wyo"
)


ABBREVIATIONS = tuple(_abbreviations.split())
"""Words that keep their full stop, whatever the case."""


_STATES = ("Ark", "Az", "Del", "Ill", "La", "Mass", "Miss", "Ore", "Pa", "Tex", "Wash")


_BEFORE_NUMBERS = ("art", "ca", "fig", "figs", "no", "nos", "op", "pp", "prop")


_A = f"[A-Za-z{LETTER}]"


_AN = f"[A-Za-z0-9{LETTER}]"


_QUOTE = "['\u2019]"


_NUMBER = r"(?:[0-9]*(?:[.:,][0-9]+)+|[0-9]+)"


_WRITTEN = {
    "(": "-lrb-",
    ")": "-rrb-",
    "[": "-lsb-",
    "]": "-rsb-",
    "{": "-lcb-",
    "}": "-rcb-",
    '"': "''",
    "\u00a3": "#",
    "\u20ac": "$",
    "\u00a2": "cents",
    "\u00bc": "1/4",
    "\u00bd": "1/2",
    "\u00be": "3/4",
    "\u2153": "1/3",
    "\u2154": "2/3",
}


Write = Callable[[str], list[str]]


@dataclass(frozen=True, slots=True)
class PtbRule:
    """A token, and what must follow it."""

    pattern: re.Pattern[str]
    """Its first group is the token; what stands after counts for the length of the match and is read again."""

    write: Write


def _same(text: str) -> list[str]:
    return [text]


def _as(token: str) -> Write:
    return lambda _: [token]


def _cut(place: int) -> Write:
    return lambda text: [text[:place], text[place:]]


def _plain_quotes(text: str) -> list[str]:
    return [text.replace("\u2019", "'").replace("\x92", "'").replace("&apos;", "'")]


def _nothing(_: str) -> list[str]:
    return []


def _no_break(text: str) -> list[str]:
    text = text.replace("(", "-LRB-").replace(")", "-RRB-")
    return ["\xa0".join(text.split())]


def _entity(text: str) -> list[str]:
    return [{"&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": "''", "&apos;": "'"}[text.lower()]]


def _ampersands(text: str) -> list[str]:
    return [text.replace("&amp;", "&")]


def _brackets(text: str) -> list[str]:
    return [text.replace("(", "-LRB-").replace(")", "-RRB-")]


_SIGNS = str.maketrans(
    {
        **dict.fromkeys("\u2018\u201b\u2039\x91", "`"),
        **dict.fromkeys("\u2019\u203a\x92", "'"),
        **dict.fromkeys("\u201c\xab\x93", "``"),
        **dict.fromkeys("\u201d\xbb\x94", "''"),
    }
)


def _quotes(text: str) -> list[str]:
    return [text.translate(_SIGNS)]


def _rule(pattern: str, write: Write = _same, *, counted: str = "", ahead: str = "") -> PtbRule:
    """A rule whose token is followed by `counted`, which makes the match longer, and `ahead`, which does not."""
    return PtbRule(re.compile(f"({pattern}){counted}{ahead}"), write)


def _capital(word: str) -> str:
    return f"{word[0]}(?i:{word[1:]})"


_TAG = (
    r"<(?:[!?][A-Za-z-][^>\n]*|/[A-Za-z][A-Za-z0-9_:.-]*|[A-Za-z][A-Za-z0-9_:.-]*"
    r"(?:\s+[A-Za-z][A-Za-z0-9_:.-]*(?:\s*=\s*(?:'[^']*'|\"[^\"]*\"|[A-Za-z0-9_:.-]+))?)*\s*/?)\s*>"
)


_PHONE = r"(?:\([0-9]{2,3}\)\s?|(?:\+\+?)?(?:[0-9]{2,4}[-\s])?[0-9]{2,4}[-\s])[0-9]{3,4}[-\s]?[0-9]{3,5}"


_URL = r"(?i:https?|ftp)://[^\s\"<>|()]+[^\s\"<>|.!?(){},-]"


_SITE = (
    r"(?:www\.(?:[^\s\"'`<>|.!?,(){}-]+\.)+[A-Za-z]{2,4}|(?:[^\s\"'`<>|.!?,_$(){}-]+\.)+(?:com|net|org|edu))"
    r"(?:/[^\s\"<>|()]+[^\s\"<>|.!?(){},-])?"
)


_MAIL = r"[A-Za-z0-9][^\s\"<>|()]*@(?:[^\s\"<>|().]+\.)*[^\s\"<>|().]+"


_SHORT = f"{_QUOTE}(?:[sSdDmM]|[lL][lL]|[rR][eE]|[vV][eE])"


_NOT = "[nN]['\u2019`][tT]"


_WORD = f"{_A}{_AN}*(?:[.!?]{_A}{_AN}*)*"


_JOINED = f"{_AN}+(?:[-_]{_AN}+)*"


_NAME = f"[dDoOlL]{_QUOTE}{_AN}{{2,}}(?:[-_]{_AN}+)*"


_HYPHENED = r"[A-Za-z0-9][A-Za-z0-9.,]*(?:-(?:(?:[A-Za-z]\.)+[A-Za-z]\.|[A-Za-z0-9]+))+"


_FLIES = (
    f"{_QUOTE}[nN]|[oO]{_QUOTE}[cC]lock|[mM]a{_QUOTE}am|[cC]{_QUOTE}mon"
    f"|[nN]?[eE]{_QUOTE}er|[oO]{_QUOTE}er|[dD]{_QUOTE}ye"
)


_TWO_WORDS = "|".join(f"(?i:{word})" for word in ("gonna", "gotta", "lemme", "gimme", "wanna"))


_SMILE = r"[<>]?[:;=][-o*']?[()DPdpO\\{@|\[\]]"


_FACE = r"[\^x=~<>]\.[\^x=~<>]|[-\^x=~<>']_[-\^x=~<>']|\([-\^x=~<>'][_.]?[-\^x=~<>']\)"


RULES = (
    # Words that are cut in two.
    _rule(f"{_A}*[A-MO-Za-mo-z{LETTER}]", counted=_NOT),
    _rule(f"{_NOT}[sS]?", _plain_quotes),
    _rule("(?i:cannot)", _cut(3), ahead=f"(?!{_A})"),
    _rule(_TWO_WORDS, _cut(3), ahead=f"(?!{_A})"),
    _rule("'[tT]", ahead=f"(?=(?i:is|was)(?!{_A}))"),
    _rule(f"{_A}+", counted=_SHORT, ahead="(?![A-Za-z])"),
    _rule(_SHORT, _plain_quotes, ahead="(?![A-Za-z])"),
    _rule(_SHORT.replace("'", ""), _plain_quotes),
    # Words.
    _rule(_WORD),
    _rule(_JOINED),
    _rule(_NAME),
    _rule(f"[A-HJ-XZdln]{_QUOTE}{_A}{{2,}}"),
    _rule(f"{_A}+[aeiouyAEIOUY]{_QUOTE}[aeiouA-Z]{_A}*"),
    _rule(_FLIES, ahead=f"(?!{_A})"),
    _rule(f"{_QUOTE}(?i:em|till?|cause)"),
    _rule(f"[yY]{_QUOTE}", ahead=f"(?={_A})"),
    _rule(f"{_QUOTE}[nN]{_QUOTE}|[lLdDjJ]{_QUOTE}"),
    _rule(_HYPHENED),
    _rule(r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}(?:\\?/[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}){1,2}"),
    _rule("[A-Z]+(?:(?:[+&]|&amp;)[A-Z]+)+", _ampersands),
    _rule(r"C\+\+|[cCfF]#"),
    # Words with a full stop.
    _rule(r"[A-Za-z]\.", ahead=f"(?!{END})"),
    _rule(r"[A-Za-z](?:\.[A-Za-z])+\.|[Pp][Hh]\.[Dd]\."),
    _rule(rf"(?:{_WORD}|{_JOINED}|{_HYPHENED}|{_NAME})\.", ahead="(?=[,;:])"),
    _rule(rf"(?:{'|'.join(map(_capital, _STATES))}|(?i:{'|'.join(ABBREVIATIONS)}))\."),
    _rule(rf"(?i:{'|'.join(_BEFORE_NUMBERS)})\.", ahead=r"(?=\s?[0-9])"),
    # Numbers.
    _rule(rf"[-+]?{_NUMBER}"),
    _rule(r"(?:[0-9]{1,4}[-\s])?[0-9]{1,4}/[0-9]{1,4}", _no_break),
    _rule(_PHONE, _no_break),
    _rule(f"{_QUOTE}[2-9]0[sS]"),
    _rule(f"{_QUOTE}[0-9][0-9]", ahead=rf"(?=\s|{END}|$)"),
    _rule(r"(?:US|A|C|CA|HK|NZ|S|R|NT|M)\$"),
    # What is written by machines.
    _rule(_TAG, _no_break),
    _rule(_URL),
    _rule(_SITE),
    _rule(_MAIL),
    _rule("@[A-Za-z_][A-Za-z0-9_]*"),
    _rule(f"#{_A}+"),
    _rule("&(?i:amp|lt|gt|quot|apos);", _entity),
    _rule("&nbsp;", _nothing),
    _rule("&#[0-9]+;"),
    _rule(_SMILE, _brackets, ahead="(?![A-Za-z0-9])"),
    _rule(_FACE, _brackets),
    # Signs, alone and in rows.
    _rule(r"\.{3,4}|\.\s\.\s\.|\u2026", _as("...")),
    _rule("-{5,}"),
    _rule("--{1,3}|\u2014", _as("--")),
    _rule("``|''|[\u2018\u2019\u201c\u201d]{1,2}", _quotes),
    _rule("[!?]+|[*]+|_+|#+|@+|<<?|>>?|\u00b2+"),
    *(_rule(re.escape(sign), _as(token)) for sign, token in _WRITTEN.items()),
    _rule(f"[{MARK}$%&'+,./:;=\\\\^`|~-]"),
)
"""All of them, in an order that matters only between matches of the same length."""


TAG = re.compile(_TAG)
"""A tag, which ends a sentence before it."""


CROSSING = re.compile(rf"{_TAG}|[0-9]\s[0-9]{{1,4}}/[0-9]|[0-9)]\s[0-9]{{3}}")
"""Where a token may hold a blank."""
