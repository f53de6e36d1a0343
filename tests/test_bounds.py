"""Numbers of settings lie between bounds, wherever they come from."""

import time
from dataclasses import dataclass
from typing import Annotated

import pytest

from fallow.config import Natural, Within, check_bounds, from_dict, json_schema
from fallow.errors import UserError
from fallow.evaluate.decoding import Decoding
from fallow.train.settings import BatchSize


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    beams: Annotated[int, Within(1, 8, "each one takes memory")] = 1
    seed: Natural = 0
    name: str = ""

    def __post_init__(self) -> None:
        check_bounds(self)


REFUSED = {
    "beams": {
        0: "beams is 0, but it must be at least 1.",
        9: "beams is 9, but it must be at most 8. Each one takes memory.",
    },
    "seed": {
        -1: "seed is -1, but it must be at least 0.",
        10**400: f"seed is the number {10**400}, but the largest whole number is 9,223,372,036,854,775,807.",
        2**64: f"seed is the number {2**64}, but the largest whole number is 9,223,372,036,854,775,807.",
        1e30: "seed is the number 1e+30, but the largest whole number is 9,223,372,036,854,775,807.",
    },
    "name": {
        "a\0b": 'name is "a\\x00b", which holds the character NUL. Remove it.',
        "a\udcff": 'name is "a\\udcff", which is not UTF-8 text. Use another name.',
    },
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in REFUSED.items() for value in values])
def test_a_document_is_refused(key: str, value: object) -> None:
    with pytest.raises(UserError) as error:
        from_dict(Search, {key: value})
    assert str(error.value) == REFUSED[key][value]


def test_so_is_python() -> None:
    with pytest.raises(UserError, match="beams is 9, but it must be at most 8"):
        Search(beams=9)


def test_the_schema_says_so() -> None:
    properties = json_schema(Search)["properties"]
    assert (properties["beams"]["minimum"], properties["beams"]["maximum"]) == (1, 8)
    assert properties["seed"]["minimum"] == 0


def test_a_batch_that_nothing_divides_is_told_at_once() -> None:
    begun = time.monotonic()
    with pytest.raises(UserError, match="Did you mean 1"):
        BatchSize(sequences=999_999_937, micro=999_999_936)  # a prime number
    with pytest.raises(UserError, match="at most 1,000,000,000"):
        from_dict(BatchSize, {"sequences": 1e18, "micro": 1})
    assert time.monotonic() - begun < 1


def test_beams_are_as_many_as_make_sense() -> None:
    with pytest.raises(UserError, match="num_beams is 100000, but it must be at most 1,000. Every beam holds a text"):
        Decoding(num_beams=100_000)
