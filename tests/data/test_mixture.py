from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.data.mixture import Mixture
from fallow.errors import UserError
from tests.data.helpers import Numbers


def two(batch: int = 8, rank: int = 0, world: int = 1, seed: int = 0) -> Mixture:
    sources = [("a", Numbers(23), 3.0), ("b", Numbers(11, first=100), 1.0)]
    return Mixture(sources, seed=seed, batch=batch, rank=rank, world=world)


def drawn(mixture: Mixture, num_batches: int, num_micro: int = 1) -> list[list[int]]:
    return [
        [int(row[0]) for batch in mixture.next_batches(num_micro) for row in batch.input_ids]
        for _ in range(num_batches)
    ]


@given(before=st.integers(0, 12), after=st.integers(1, 6), seed=st.integers(0, 2**40), batch=st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_a_resumed_stream_equals_an_undisturbed_one(before: int, after: int, seed: int, batch: int) -> None:
    whole = drawn(two(batch, seed=seed), before + after)
    first = two(batch, seed=seed)
    drawn(first, before)
    second = two(batch, seed=seed)
    second.load_state_dict(first.state_dict())
    assert drawn(second, after) == whole[before:]


@given(world=st.sampled_from([2, 3, 4, 6]), steps=st.integers(1, 5), seed=st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_the_global_batch_is_the_same_for_every_number_of_processes(world: int, steps: int, seed: int) -> None:
    alone = drawn(two(12, seed=seed), steps)
    ranks = [drawn(two(12, rank, world, seed), steps) for rank in range(world)]
    for step, batch in enumerate(alone):
        assert [batch[rank::world] for rank in range(world)] == [ranks[rank][step] for rank in range(world)]


@given(size=st.integers(1, 60), batch=st.integers(1, 13), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_each_epoch_is_a_permutation(size: int, batch: int, seed: int) -> None:
    mixture = Mixture([("only", Numbers(size), 1.0)], seed=seed, batch=batch)
    numbers = [n for taken in drawn(mixture, 3 * size // batch + 1) for n in taken]
    for epoch in range(len(numbers) // size):
        assert sorted(numbers[epoch * size : (epoch + 1) * size]) == list(range(size))


def test_epochs_differ_in_order() -> None:
    mixture = Mixture([("only", Numbers(50), 1.0)], seed=0, batch=50)
    first, second = drawn(mixture, 2)
    assert first != second
    assert first != sorted(first)


def test_sources_are_drawn_by_weight() -> None:
    mixture = Mixture([("a", Numbers(1000), 3.0), ("b", Numbers(10, first=5000), 1.0)], seed=1, batch=100)
    seen = Counter(n >= 5000 for taken in drawn(mixture, 40) for n in taken)
    assert abs(seen[True] / 4000 - 0.25) < 0.03
    state = mixture.state_dict()
    assert state["position"] == 4000
    assert state["sources"]["b"]["epoch"] == seen[True] // 10


def test_each_source_goes_through_its_own_epochs() -> None:
    numbers = [n for taken in drawn(two(), 60) for n in taken]
    small = [n for n in numbers if n >= 100]
    assert sorted(small[:11]) == list(range(100, 111))
    assert sorted(small[11:22]) == list(range(100, 111))


def test_micro_batches_cut_the_same_batch() -> None:
    assert drawn(two(8), 3, num_micro=1) == drawn(two(8), 3, num_micro=4) == drawn(two(8), 3, num_micro=3)
    assert [len(batch.ids) for batch in two(8).next_batches(3)] == [3, 2, 3]
    assert two(8).next_batches(1)[0].ids[0].__class__ is str


def test_the_state_is_small_and_plain() -> None:
    mixture = two()
    drawn(mixture, 5)
    state = mixture.state_dict()
    assert set(state) == {"position", "sources", "fingerprint"}
    assert state["sources"]["a"].keys() == {"cursor", "epoch"}
    assert (
        state["sources"]["a"]["cursor"]
        + 23 * state["sources"]["a"]["epoch"]
        + sum(state["sources"]["b"][k] * f for k, f in (("cursor", 1), ("epoch", 11)))
        == 40
    )


def test_states_pass_between_numbers_of_processes() -> None:
    whole = drawn(two(12), 6)
    pair = [two(12, rank, 2) for rank in range(2)]
    for part in pair:
        drawn(part, 3)
    alone = two(12)
    alone.load_state_dict(pair[1].state_dict())
    assert drawn(alone, 3) == whole[3:]


def test_lengths() -> None:
    assert two().epoch_length == 34
    assert two(8).tokens_per_batch == 32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch": 9, "world": 2}, "9 sequences cannot be shared by 2 processes. Use a batch of 8 or 10"),
        ({"batch": 1, "world": 2}, "Use a batch of 2."),
        ({"batch": 0}, "at least 1"),
        ({"sources": []}, "at least one source"),
        ({"sources": [("a", Numbers(3), 1.0), ("a", Numbers(3), 1.0)]}, "named a"),
        ({"sources": [("a", Numbers(0), 1.0)]}, "source a has no sequence"),
        ({"sources": [("a", Numbers(3), 0.0)]}, "weight of source a is 0.0"),
    ],
)
def test_mistakes(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Mixture(**{"sources": [("a", Numbers(3), 1.0)], "seed": 0, "batch": 8, **change})


def test_the_state_of_another_stream_is_refused() -> None:
    with pytest.raises(UserError, match="belongs to another stream"):
        two(seed=1).load_state_dict(two(seed=0).state_dict())
    with pytest.raises(UserError, match="cannot cut 8 sequences"):
        two().next_batches(9)
