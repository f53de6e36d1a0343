import math

import pytest
import torch

from fallow.analysis.distances import distance


def test_against_the_formula_in_plain_numbers() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(7, 5, generator=generator) for _ in range(2))
    x, y = a.double().flatten().tolist(), b.double().flatten().tolist()
    dot = math.fsum(p * q for p, q in zip(x, y, strict=True))
    norm_x, norm_y = (math.sqrt(math.fsum(p * p for p in v)) for v in (x, y))
    found = distance(a, b)
    assert found.cosine == pytest.approx(1 - dot / (norm_x * norm_y), rel=1e-12)
    assert (found.norm_a, found.norm_b) == pytest.approx((norm_x, norm_y), rel=1e-12)
    change = math.sqrt(math.fsum((q - p) ** 2 for p, q in zip(x, y, strict=True))) / norm_x
    assert found.change == pytest.approx(change, rel=1e-12)


def test_equal_scaled_opposite_and_orthogonal() -> None:
    a = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    assert (distance(a, a).cosine, distance(a, a).change) == (0.0, 0.0)
    scaled = distance(a, 4.0 * a)
    assert scaled.cosine == pytest.approx(0.0, abs=1e-30)
    assert (scaled.ratio, scaled.change) == pytest.approx((4.0, 3.0))
    assert distance(a, -a).cosine == pytest.approx(2.0)
    assert distance(torch.eye(2)[0], torch.eye(2)[1]).cosine == pytest.approx(1.0)


def test_tiny_distances_keep_their_digits() -> None:
    """1 - cos by subtraction would have no correct digit here: the distance is half the squared angle, 5e-19."""
    a = torch.tensor([1.0, 0.0], dtype=torch.float64)
    b = torch.tensor([1.0, 1e-9], dtype=torch.float64)
    assert distance(a, b).cosine == pytest.approx(5e-19, rel=1e-6)


def test_half_precision_is_computed_in_double() -> None:
    a = torch.full((1000, 1000), 200.0, dtype=torch.float16)  # the squared norm alone overflows float16
    assert distance(a, a).norm_a == pytest.approx(200.0 * 1000)
    assert distance(a, a).cosine == 0.0


def test_zeros() -> None:
    zero, one = torch.zeros(3), torch.ones(3)
    assert distance(zero, zero).cosine == 0.0
    assert distance(zero, one).cosine is None and distance(one, zero).cosine is None
    assert distance(zero, one).change is None and distance(zero, one).ratio is None
    assert distance(one, zero).ratio == 0.0
