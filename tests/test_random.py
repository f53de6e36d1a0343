"""The generator against its authors' known answers, and draws against what they claim."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.random import Key, permutation_index, philox, sample_without_replacement

# Random123's kat_vectors, philox4x32 10: counter, key, result.
KNOWN = [
    ([0, 0, 0, 0], (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, (0xFFFFFFFF, 0xFFFFFFFF), [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        (0xA4093822, 0x299F31D0),
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_philox_gives_the_known_answers(counter: list[int], key: tuple[int, int], expected: list[int]) -> None:
    assert philox(np.array([counter], dtype=np.uint32), key)[0].tolist() == expected


def test_a_stream_is_frozen() -> None:
    # Changing these numbers changes every support ever drawn: saved models would no longer load.
    assert Key(0, "h.0.attn.c_attn").words(3).tolist() == [
        11619148355533260238,
        14396603132769516050,
        7238904949666751945,
    ]
    assert sample_without_replacement(Key(7, "w"), 1000, 4).tolist() == [48, 363, 901, 911]


@given(start=st.integers(0, 40_000), num=st.integers(0, 50))
def test_any_part_of_a_stream_can_be_drawn(start: int, num: int) -> None:
    key = Key(3, "part")
    assert key.words(num, start).tolist() == key.words(start + num)[start:].tolist()


@given(size=st.integers(1, 5000), share=st.floats(0, 1))
def test_samples_are_distinct_sorted_and_exact(size: int, share: float) -> None:
    num = round(size * share)
    sample = sample_without_replacement(Key(1, "s"), size, num)
    assert len(sample) == num
    assert (np.diff(sample) > 0).all()
    assert num == 0 or (sample[0] >= 0 and sample[-1] < size)


@pytest.mark.parametrize(("size", "num"), [(6, 2), (6, 5), (600, 280)])
def test_every_element_is_equally_likely(size: int, num: int) -> None:
    trials = 3000 if size == 6 else 400
    counts = Counter(i for trial in range(trials) for i in sample_without_replacement(Key(trial), size, num).tolist())
    share = num / size
    deviation = (np.array([counts[i] for i in range(size)]) - trials * share) / np.sqrt(trials * share * (1 - share))
    assert np.abs(deviation).max() < 4.5
    assert 0.7 < deviation.var() * size / (size - 1) < 1.4 or size == 6


def test_impossible_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot draw 4 different integers of 3"):
        sample_without_replacement(Key(0), 3, 4)


@given(size=st.integers(1, 700), seed=st.integers(0, 5))
def test_permutations_are_permutations(size: int, seed: int) -> None:
    assert sorted(permutation_index(Key(seed), i, size) for i in range(size)) == list(range(size))


def test_permutations_mix() -> None:
    size, seeds = 500, 40
    position = np.arange(size)
    orders = [np.array([permutation_index(Key(s, "mix"), i, size) for i in range(size)]) for s in range(seeds)]
    # sqrt(n) times the correlation of a random order with the identity is a standard normal number
    scores = np.array([np.corrcoef(order, position)[0, 1] for order in orders]) * size**0.5
    assert abs(scores.mean()) < 4 / seeds**0.5
    assert 0.6 < scores.std() < 1.5
    assert np.mean([(order == position).sum() for order in orders]) < 3  # one fixed point is expected


def test_normal_has_its_moments() -> None:
    x = Key(0, "n").normal(100_001)
    assert len(x) == 100_001
    assert abs(x.mean()) < 0.02
    assert abs(x.std() - 1) < 0.02
    assert abs((x**4).mean() - 3) < 0.15
