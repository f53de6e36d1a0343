import pytest
import torch

from fallow.analysis.residuals import QUANTILES, residual
from fallow.analysis.spectra import composition, spectrum


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def planted(noise: float = 0.0) -> torch.Tensor:
    """Singular values 5, 4, 3 and, with noise, a tail."""
    left, right = torch.linalg.qr(normal(30, 3))[0], torch.linalg.qr(normal(20, 3, seed=1))[0]
    return left @ torch.diag(torch.tensor([5.0, 4.0, 3.0], dtype=torch.float64)) @ right.T + noise * normal(
        30, 20, seed=2
    )


def test_planted_values_are_found() -> None:
    found = spectrum(planted())
    assert found.values[:3] == pytest.approx((5.0, 4.0, 3.0))
    assert max(found.values[3:]) < 1e-12
    assert found.energy(3) == pytest.approx(1.0)
    assert found.energy(1) == pytest.approx(25 / 50)
    assert found.stable_rank == pytest.approx(50 / 25)
    assert (found.rank_of(0.49), found.rank_of(0.51), found.rank_of(1 - 1e-12)) == (1, 2, 3)


def test_against_torch_in_double_precision() -> None:
    weight = normal(17, 31).float()
    assert spectrum(weight).values == pytest.approx(torch.linalg.svdvals(weight.double()).tolist(), rel=1e-12)


def test_zero_has_no_energy() -> None:
    found = spectrum(torch.zeros(3, 2))
    assert (found.energy(1), found.stable_rank, found.rank_of(0.9)) == (None, None, 0)


@pytest.mark.parametrize("rank", [0, 1, 3, 20])
def test_the_residual_is_what_the_tail_of_the_spectrum_says(rank: int) -> None:
    """Eckart and Young: the squared norm of W - W_r is the sum of the squared values behind the first r."""
    weight = planted(noise=0.1)
    values, found = residual(weight, rank)
    tail = sum(value * value for value in values.values[rank:])
    assert found.share == pytest.approx(tail / float(weight.square().sum()), abs=1e-14)
    assert values.energy(rank) == pytest.approx(1 - found.share, abs=1e-12)


def test_a_planted_low_rank_leaves_the_noise() -> None:
    """With 3 strong directions gone, what is left has the size of the noise: E|x| = sigma sqrt(2 / pi)."""
    noise = 0.01
    _, found = residual(planted(noise), 3)
    assert found.mean == pytest.approx(noise * (2 / torch.pi) ** 0.5, rel=0.2)
    assert residual(planted(), 3)[1].quantiles[-1] < 1e-12


def test_magnitudes_against_torch() -> None:
    weight = normal(40, 25)
    _, found = residual(weight, 0)  # nothing taken away
    expected = torch.quantile(
        weight.abs().flatten(), torch.tensor(QUANTILES, dtype=torch.float64), interpolation="nearest"
    )
    assert found.quantiles == pytest.approx(expected.tolist())
    assert found.mean == pytest.approx(float(weight.abs().mean()))
    assert found.share == pytest.approx(1.0)
    top = weight.abs().flatten().topk(30).values.square().sum() / weight.square().sum()
    assert found.top == pytest.approx(float(top))


def test_spikes_show_in_the_top_share() -> None:
    spiked = planted(noise=1e-3)
    spiked.view(-1)[::50] += 1.0  # 2% of the entries
    assert residual(spiked, 3)[1].top > 0.7 > residual(planted(noise=1e-3), 3)[1].top


def test_terms_add_up_to_the_spectrum() -> None:
    low_rank, sparse = planted(), normal(30, 20, seed=5) * (normal(30, 20, seed=6) > 1.5) * 0.1
    found = composition(low_rank + sparse, low_rank)
    both = [a + b for a, b in zip(found.low_rank, found.rest, strict=True)]
    assert both == pytest.approx(spectrum(low_rank + sparse).values)
    assert sum(found.low_rank[:3]) > 20 * abs(sum(found.rest[:3]))
    assert sum(found.rest[3:]) > 5 * abs(sum(found.low_rank[3:]))


def test_a_term_alone_is_the_whole_spectrum() -> None:
    found = composition(planted(), planted())
    assert found.low_rank == pytest.approx(spectrum(planted()).values, abs=1e-12)
    assert found.rest == pytest.approx([0.0] * 20, abs=1e-12)
