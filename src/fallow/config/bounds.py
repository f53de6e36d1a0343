"""Between which numbers a setting lies: said once, beside its type; held in recipes, in Python and in the schema."""

import typing
from dataclasses import dataclass
from typing import Any

from fallow.config.fields import hints_of
from fallow.errors import UserError

MOST = 2**63 - 1
"""The largest whole number that a setting can be: what a tensor, a generator and a file of JSON hold everywhere."""


@dataclass(frozen=True, slots=True)
class Within:
    """Marks a field of numbers: `Annotated[int, Within(1, 1024, "each one takes memory")]`.

    >>> Within(1, 8).check("num_beams", 9)
    Traceback (most recent call last):
        ...
    fallow.errors.UserError: num_beams is 9, but it must be at most 8.
    """

    least: int
    """The smallest value."""

    most: int = MOST
    """The largest value."""

    why: str = ""
    """Why not more, in a sentence without its point."""

    def check(self, name: str, value: float) -> None:
        """Refuse a value outside.

        Raises:
            UserError: names it, and the end that it is beyond.
        """
        if not value >= self.least:
            raise UserError(f"{name} is {value}, but it must be at least {self.least}.")
        if not value <= self.most:
            why = f" {self.why[0].upper()}{self.why[1:]}." if self.why else ""
            raise UserError(f"{name} is {value}, but it must be at most {self.most:,}.{why}")


def bounds_of(annotation: Any) -> Within | None:
    """The bounds that a field's type is marked with."""
    marks = annotation.__metadata__ if typing.get_origin(annotation) is typing.Annotated else ()
    return next((mark for mark in marks if isinstance(mark, Within)), None)


def check_bounds(settings: Any) -> None:
    """Refuse numbers outside their bounds, in a dataclass that was made in Python; from its `__post_init__`.

    Raises:
        UserError: names the field, its value, and its bound.
    """
    for name, annotation in hints_of(type(settings)).items():
        if bounds := bounds_of(annotation):
            bounds.check(name, getattr(settings, name))


Natural = typing.Annotated[int, Within(0)]
"""A number of things, or none."""

Positive = typing.Annotated[int, Within(1)]
"""A number of things."""
