"""Two published laws of sparse losses: the runs that one was fitted on, published gains, and the best sparsity."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.accounting.scaling import LAWS, DynamicSparse, GradualPruning, best_sparsity

T5_BLOCKS = 24 * 12 * 768**2
"""Matrix entries of the blocks of T5-base, to which the scales refer."""

RUNS = {  # non-zero share of the scale: (sparsity, scale, losses after 250, 500 and 1000 thousand steps)
    (0.0, 1 / 128): (3.1256, 3.0798, 3.0334), (0.5, 1 / 64): (2.8417, 2.7804, 2.7383),
    (0.75, 1 / 32): (2.7468, 2.7035, 2.6680), (0.875, 1 / 16): (2.6938, 2.6491, 2.6270),
    (0.0, 1 / 32): (2.5545, 2.4999, 2.4508), (0.5, 1 / 16): (2.3919, 2.3246, 2.2850),
    (0.75, 1 / 8): (2.3210, 2.2691, 2.2256), (0.875, 1 / 4): (2.2855, 2.2343, 2.1988),
    (0.0, 1 / 8): (2.1760, 2.1030, 2.0540), (0.5, 1 / 4): (2.0477, 1.9841, 1.9240),
    (0.75, 1 / 2): (1.9879, 1.9227, 1.8660), (0.875, 1.0): (1.9726, 1.9033, 1.8510),
    (0.0, 1 / 2): (1.8828, 1.7999, 1.7401), (0.5, 1.0): (1.8178, 1.7230, 1.6539),
    (0.75, 2.0): (1.7683, 1.6853, 1.6110), (0.875, 4.0): (1.7610, 1.6745, 1.6030),
}  # fmt: skip
"""The 48 runs of Frantar et al. (2023), as published with their code."""


def test_the_runs_of_frantar_within_the_published_error() -> None:
    law, errors = GradualPruning(), []
    for (sparsity, scale), losses in RUNS.items():
        for steps, loss in zip((250e3, 500e3, 1000e3), losses, strict=True):
            errors.append(abs(law.loss(T5_BLOCKS * scale, sparsity, steps * 65_536) / loss - 1))
            assert not law.outside(T5_BLOCKS * scale, sparsity, steps * 65_536)
    assert len(errors) == 48
    assert sum(errors) / 48 < 0.0085
    assert max(errors) < 0.0275


@pytest.mark.parametrize(
    ("law", "gains"),
    [(GradualPruning(), (1.59, 2.16, 2.63)), (DynamicSparse(), (1.61, 1.98, 2.17))],
    ids=["gradual pruning", "dynamic sparse training"],
)
def test_gains_at_equal_nonzeros(law, gains) -> None:
    for sparsity, gain in zip((0.5, 0.75, 0.875), gains, strict=True):
        assert law.gain(sparsity) == pytest.approx(gain, abs=0.006)
    assert round(GradualPruning().dense_share(0.75), 2) == 0.54


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
@given(size=st.floats(1e7, 1e10), sparsity=st.floats(0.0, 0.87), tokens=st.floats(1e9, 1e11))
def test_the_dense_equivalent_has_the_same_loss(law, size: float, sparsity: float, tokens: float) -> None:
    loss = law.loss(size, sparsity, tokens)
    assert law.loss(size * law.dense_share(sparsity), 0.0, tokens) == pytest.approx(loss, rel=1e-9)
    assert law.loss(2 * size, sparsity, tokens) < loss
    assert law.loss(size, sparsity, 2 * tokens) < loss
    assert law.loss(size, sparsity + 0.01, tokens) > loss * (1 - 1e-3)
    assert law.gain(0.0) == pytest.approx(1.0)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_the_best_sparsity_is_the_best_of_a_fine_grid(law) -> None:
    def flops_per_token(sparsity: float) -> float:
        return 3 * (6e8 + 2.4e9 * (1 - sparsity))

    best = best_sparsity(law, 1.2e9, 1e20, flops_per_token)
    grid = [i / 2000 for i in range(int(law.most_sparse * 2000) + 1)]
    losses = {s: law.loss(1.2e9, s, 1e20 / flops_per_token(s)) for s in grid}
    assert best.loss <= min(losses.values()) + 1e-9
    assert best.sparsity == pytest.approx(min(losses, key=losses.__getitem__), abs=0.01)
    assert best.tokens == pytest.approx(1e20 / flops_per_token(best.sparsity))


def test_where_zeros_cost_as_much_hardly_any_sparsity_is_best() -> None:
    """The second law has its minimum a little above 0: it was fitted with a free exponent there."""
    for law, most in zip(LAWS, (0.001, 0.1), strict=True):
        best = best_sparsity(law, 1.2e9, 1e20, lambda _: 9e9)
        assert best.sparsity <= most
        assert best.loss == pytest.approx(law.loss(1.2e9, 0.0, best.tokens), rel=1e-3)


def test_places_outside_of_the_fit_are_named() -> None:
    assert not DynamicSparse().outside(1.3e9, 0.75, 26e9)
    found = GradualPruning().outside(1.2e9, 0.95, 26e9)
    assert len(found) == 1
    assert "sparsity 0.95 is above" in found[0]
    assert "non-zero parameters" in GradualPruning().outside(1.2e9, 0.5, 26e9)[0]
    assert "tokens" in DynamicSparse().outside(1e8, 0.5, 1e15)[0]
