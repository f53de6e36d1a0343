"""Errors a user can act on: one line that names the key, the value, what is allowed and what to type instead."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake in what was asked for, not in fallow.

    The command prints its message on one line and exits with 2; in Python it is a plain `ValueError`.
    """


def first_line(error: BaseException) -> str:
    r"""The first line of what an error of a library says, or its kind where it says nothing.

    >>> first_line(ValueError("no such key\nHere is a long explanation"))
    'no such key'
    >>> first_line(KeyError())
    'KeyError'
    """
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def in_a_line(error: BaseException, most: int = 300) -> str:
    r"""All that an error of a library says, on one line; cut where it is long. A key alone says nothing by itself.

    >>> in_a_line(ValueError("field 'n_inner':\n  an integer is needed"))
    "field 'n_inner': an integer is needed"
    >>> in_a_line(KeyError("gelu7"))
    "KeyError 'gelu7'"
    """
    text = " ".join(str(error).split())
    text = f"{type(error).__name__} {text}".rstrip() if not text or isinstance(error, KeyError) else text
    return text if len(text) <= most else f"{text[:most]}..."


def nearest(name: str, options: Iterable[str]) -> str:
    """The option closest to `name`, or an empty string when none is close.

    >>> nearest("optimiser", ["optimizer", "schedule"])
    'optimizer'
    >>> nearest("zebra", ["optimizer", "schedule"])
    ''
    """
    found = difflib.get_close_matches(name, list(options), n=1, cutoff=0.6)
    return found[0] if found else ""


def unknown(kind: str, name: str, options: Iterable[str]) -> UserError:
    """An error for a name that does not exist: suggests the nearest one, else lists all.

    >>> str(unknown("method", "spars", ["dense", "sparse"]))
    'unknown method "spars". Did you mean "sparse"?'
    """
    names = sorted(options)
    close = nearest(name, names)
    hint = f'Did you mean "{close}"?' if close else f"Known: {', '.join(names)}."
    return UserError(f'unknown {kind} "{name}". {hint}')


def plain_text(text: str, name: str) -> str:
    r"""A text that every file and every call of the system can hold: UTF-8, without the character NUL.

    Raises:
        UserError: names what the text is of.

    >>> plain_text("a\0b", "output")
    Traceback (most recent call last):
        ...
    fallow.errors.UserError: output is "a\x00b", which holds the character NUL. Remove it.
    """
    if "\0" in text:
        raise UserError(
            f'{name} is "{text.replace(chr(0), chr(92) + "x00")}", which holds the character NUL. Remove it.'
        )
    try:
        text.encode()
    except UnicodeEncodeError:
        shown = text.encode("utf-8", "backslashreplace").decode()
        raise UserError(f'{name} is "{shown}", which is not UTF-8 text. Use another name.') from None
    return text
