"""How the official scripts cut a text into tokens, and which letters they take as equal."""

import re
import string

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
