"""What the script of the WebNLG challenge 2017 does to texts before any metric."""

import re
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
