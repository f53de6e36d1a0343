import torch
from hypothesis import given
from hypothesis import strategies as st

from fallow.analysis.supports import Overlap, overlap


def weights(indices: set[int], size: int = 12) -> torch.Tensor:
    weight = torch.zeros(size)
    weight[sorted(indices)] = 0.5
    return weight.reshape(3, -1)


@given(st.sets(st.integers(0, 11)), st.sets(st.integers(0, 11)))
def test_against_sets(a: set[int], b: set[int]) -> None:
    found = overlap(weights(a), weights(b))
    assert (found.size, found.nonzero_a, found.nonzero_b) == (12, len(a), len(b))
    assert (found.both, found.either) == (len(a & b), len(a | b))
    assert found.jaccard == (len(a & b) / len(a | b) if a | b else None)
    assert found.share_a == (len(a & b) / len(a) if a else None)
    assert found.share_b == (len(a & b) / len(b) if b else None)


def test_disjoint_and_equal() -> None:
    assert overlap(weights({0, 1}), weights({2, 3})).jaccard == 0.0
    assert overlap(weights({0, 5}), weights({0, 5})).jaccard == 1.0


def test_random_supports_overlap_as_chance_says() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = ((torch.rand(400, 500, generator=generator) < p).float() for p in (0.25, 0.5))
    found = overlap(a, b)
    assert abs(found.jaccard - found.chance) < 0.005
    assert abs(found.chance - 0.125 / 0.625) < 0.005


def test_sums_are_those_of_all_entries() -> None:
    a, b = overlap(weights({0, 1}), weights({1})), overlap(weights({3}), weights({3, 4}))
    assert a + b == Overlap(24, 3, 3, 2)
