"""How sparse values and factors begin."""

import math

import pytest
import torch
from torch import nn

from fallow.linear import Drawn, FromWeight, LowRank, ReparamLinear, Site, Sparse, Start, Terms, Zeros
from fallow.random import Key
from fallow.supports import Uniform


def layer(start: Start, seed: int = 0) -> tuple[nn.Linear, ReparamLinear]:
    torch.manual_seed(seed)
    stock = nn.Linear(256, 64)
    sparse = Sparse(kind=Uniform(), density=0.5, key=Key(0, "w"), parts=(64,), start=start)
    site = Site("fc", (64, 256), (64,), False)
    return stock, ReparamLinear.from_layer(stock, site, Terms(sparse=sparse))


def test_from_weight_is_the_weight_under_a_mask() -> None:
    stock, ours = layer(FromWeight(2.0))
    merged = ours.effective_weight().detach()
    kept = merged != 0
    assert torch.equal(merged[kept], 2.0 * stock.weight.detach()[kept])


def test_zeros_change_nothing() -> None:
    _, ours = layer(Zeros())
    assert ours.values is not None and not ours.values.detach().any()


def test_drawn_values_have_the_right_spread_and_ignore_weight_and_global_generator() -> None:
    values = [layer(Drawn(), seed)[1].values for seed in (0, 1)]
    assert torch.equal(values[0], values[1])
    bound = 1 / math.sqrt(256)
    assert float(values[0].detach().abs().max()) <= bound
    assert float(values[0].detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.03)


def test_each_restart_of_a_factor_is_another_draw() -> None:
    term = LowRank(rank=4, alpha=4.0, key=Key(0, "w"))
    draws = [term.draw(torch.zeros(64, 64))[0], *(term.draw_again(64, restart) for restart in (1, 2))]
    assert torch.equal(draws[1], term.draw_again(64, 1))
    assert not torch.equal(draws[0], draws[1]) and not torch.equal(draws[1], draws[2])
    assert float(draws[2].abs().max()) <= 1 / 8
