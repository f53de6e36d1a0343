import pytest

from fallow.errors import UserError
from fallow.evaluate.decoding import Decoding
from fallow.evaluate.selection import spread


@pytest.mark.parametrize(
    ("key", "value"),
    [("num_beams", 0), ("max_new_tokens", 0), ("no_repeat_ngram_size", -1), ("batch_size", 0), ("max_contexts", -1)],
)
def test_values_out_of_range_are_named(key: str, value: int) -> None:
    with pytest.raises(UserError, match=f"{key} is {value}, but it must be at least"):
        Decoding(**{key: value})


def test_length_penalty_without_beams_is_refused() -> None:
    with pytest.raises(UserError, match="no effect with num_beams 1"):
        Decoding(length_penalty=0.9)
    assert Decoding(num_beams=2, length_penalty=0.9).length_penalty == 0.9


@pytest.mark.parametrize(("total", "limit"), [(10, 4), (630, 100), (7, 6), (5, 5), (3, 9)])
def test_spread_is_distinct_ascending_and_reaches_over_the_whole_set(total: int, limit: int) -> None:
    chosen = spread(total, limit)
    assert len(chosen) == min(total, limit)
    assert chosen == sorted(set(chosen))
    assert chosen[-1] >= total - 1 - total / limit
