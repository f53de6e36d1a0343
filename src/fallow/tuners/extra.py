"""PEFT, which is an extra."""

from typing import Any

from fallow.errors import UserError


def peft() -> Any:
    """The library.

    Raises:
        UserError: it is not installed.
    """
    try:
        import peft as library
    except ImportError as error:
        raise UserError('method peft needs the library PEFT. Install it with pip install "fallow[hf]"') from error
    return library
