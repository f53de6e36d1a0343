"""Stochastic rounding: a neighbour, right on average, the same in every repetition and however a tensor is cut."""

import pytest
import torch

from fallow.train.optimizers.rounding import at_step, noise, round_stochastically, stream

CPU = torch.device("cpu")


def test_noise_is_uniform_and_independent() -> None:
    key = stream(3, "h.0.attn.c_attn.values")
    num = 1 << 18
    draws = torch.stack([noise(at_step(key, step), 0, num, CPU) for step in (1, 2)]).double()
    for row in draws:
        assert row.min() >= 0 and row.max() <= 65535
        counts = torch.bincount((row / 256).long(), minlength=256).double()
        assert ((counts - num / 256).square() / (num / 256)).sum() < 330  # chi-squared, 255 degrees: 99.9%
    shifted = [draws[0, :-lag] for lag in (1, 2, 4)]
    for lag, row in zip((1, 2, 4), shifted, strict=True):
        assert abs(float(torch.corrcoef(torch.stack([row, draws[0, lag:]]))[0, 1])) < 0.01
    assert abs(float(torch.corrcoef(draws)[0, 1])) < 0.01
    assert stream(3, "a") != stream(3, "b") != stream(4, "b")


def test_noise_does_not_depend_on_how_it_is_cut() -> None:
    key = at_step(stream(0, "w"), 7)
    whole = noise(key, 0, 1003, CPU)
    for start, num in ((0, 5), (1, 6), (3, 1000), (998, 5), (1002, 1), (4, 0)):
        assert torch.equal(noise(key, start, num, CPU), whole[start : start + num])


@pytest.mark.parametrize("value", [1.0 + 2**-10, -3.1415927, 1e-3 + 1e-7, 6.1e-39, 1.9999999])
def test_rounding_is_unbiased(value: float) -> None:
    num = 1 << 17
    exact = torch.tensor([value])
    down = exact.view(torch.int32) & -65536  # towards zero
    neighbours = torch.cat([down, down + 65536]).view(torch.float32).double()
    rounded = round_stochastically(exact.expand(num).contiguous(), noise(9, 0, num, CPU)).double()
    assert set(rounded.unique().tolist()) <= set(neighbours.tolist())
    deviation = float((neighbours[1] - neighbours[0]).abs()) / 2 / num**0.5
    assert abs(float(rounded.mean()) - float(exact.double())) <= 5 * deviation


def test_what_fits_stays() -> None:
    exact = torch.randn(4096).bfloat16()
    extreme = torch.tensor([0.0, -0.0, 1.0, float("inf"), -float("inf"), 3.3895e38]).bfloat16()
    for x in (exact, extreme):
        assert torch.equal(round_stochastically(x.float(), noise(1, 0, len(x), CPU)), x)


def test_small_changes_are_not_lost() -> None:
    """A thousand steps of 1/10,000 of 1: rounding to the nearest bfloat16 stands still, this arrives."""
    num, change, steps = 2000, -1e-4, 1000
    nearest = torch.ones(num).bfloat16()
    ours = nearest.clone()
    for step in range(steps):
        nearest = (nearest.float() + change).bfloat16()
        ours = round_stochastically(ours.float() + change, noise(at_step(5, step), 0, num, CPU))
    assert torch.all(nearest == 1)
    assert float(ours.double().mean()) == pytest.approx(0.9, abs=0.002)
