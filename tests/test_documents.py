"""YAML that is meant to harm: it is refused in one line, in no time."""

import string
import time

import pytest

from fallow.config import parse
from fallow.errors import UserError

_BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
    for old, new in zip(string.ascii_lowercase[:9], string.ascii_lowercase[1:10], strict=True)
)
REFUSED = {
    "a: !!bool maybe": 'the text is not valid YAML (line 1): "maybe" has the tag !!bool. Remove the tag.',
    "a: !!map [1]": "the text is not valid YAML (line 1): the tag !!map means nothing here. Remove it.",
    "a: !!set {b}": "the text is not valid YAML (line 1): the tag !!set means nothing here. Remove it.",
    "a: &s {<<: *s}": "the text is not valid YAML (line 1): an anchor stands in itself. Remove the alias inside it.",
    "a: &s [*s]": "the text is not valid YAML (line 1): an anchor stands in itself. Remove the alias inside it.",
    "[" * 100_000: "the text is not valid YAML (line 1): it is more than 100 levels deep.",
    "- " * 5_000 + "a": "the text is not valid YAML (line 1): it is more than 100 levels deep.",
    "? [1, 2]\n: 3": "the text is not valid YAML (line 1): a key is no plain text.",
    "a: " + "9" * 5_000: "the text is not valid YAML: a number of 5,000 digits in line 1.",
    _BOMB: "the text is not valid YAML (line 6): with aliases written out it holds more than 100,000 values.",
    "a" * 10_000_001: "the text has 10,000,001 characters, but at most 10,000,000 are read.",
}


@pytest.mark.parametrize("text", REFUSED, ids=range(len(REFUSED)))
def test_it_is_refused_in_one_line(text: str) -> None:
    begun = time.monotonic()
    with pytest.raises(UserError) as error:
        parse(text)
    assert str(error.value) == REFUSED[text]
    assert time.monotonic() - begun < 5


def test_many_keys_take_linear_time() -> None:
    begun = time.monotonic()
    assert len(parse("".join(f"k{n}: 1\n" for n in range(30_000)))) == 30_000
    assert time.monotonic() - begun < 10  # three minutes, when every key was counted in all others


def test_anchors_may_be_shared() -> None:
    assert parse("a: &x {b: 1}\nc: {<<: *x, d: 2}\ne: [*x, *x]") == {
        "a": {"b": 1},
        "c": {"b": 1, "d": 2},
        "e": [{"b": 1}, {"b": 1}],
    }
