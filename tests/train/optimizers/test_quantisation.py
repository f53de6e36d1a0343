"""Codes against exact nearest values; the published map; sizes that no block divides."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.train.optimizers.quantisation import dequantise, dynamic_map, quantise

SIGNS = pytest.mark.parametrize("signed", [True, False])
BLOCK = 256


def spread(num: int, *, signed: bool, seed: int = 0) -> torch.Tensor:
    """Numbers over many orders of magnitude."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num, generator=generator) * torch.exp(3 * torch.randn(num, generator=generator))
    return x if signed else x.square()


@SIGNS
def test_the_map_is_the_published_one(signed: bool) -> None:
    values = dynamic_map(signed=signed)
    assert values.dtype == torch.float32 and len(values.unique()) == 256
    assert torch.equal(values, values.sort().values)
    # As printed by bitsandbytes 0.50: the outermost values, and how many there are in each decade.
    ends = values[[0, 1, -2, -1]].tolist()
    published = [-0.99296875, -0.97890625, 0.99296875, 1.0] if signed else [0.0, 3.25e-7, 0.996484375, 1.0]
    assert ends == pytest.approx(published, abs=1e-7)
    positive = values[(values > 0) & (values < 1)]
    decades = torch.bincount((positive.double().log10() + 7).floor().long())
    assert decades.tolist() == [2 ** (d + (0 if signed else 1)) for d in range(7)]


@SIGNS
def test_every_code_is_the_nearest(signed: bool) -> None:
    """Against a search through all 256 values, in float64, for numbers of every size and for the borders themselves."""
    values = dynamic_map(signed=signed)
    middles = (values[:-1] + values[1:]) / 2
    near = [torch.nextafter(middles, torch.tensor(to)) for to in (-9.0, 9.0)]
    sizes = torch.logspace(-12, 0, 3000)
    x = torch.cat([values, middles, *near, sizes, *([-sizes] if signed else []), torch.tensor([0.0, 1.0])])
    codes, scales = quantise(x, x.numel(), signed=signed)
    assert scales.tolist() == [1.0]
    found = (values[codes.long()].double() - x.double()).abs()
    best = (values.double()[None] - x.double()[:, None]).abs().min(1).values
    rounded_up = (codes == 1) & (x > 0) & (x < middles[0]) if not signed else torch.zeros_like(x, dtype=torch.bool)
    assert torch.allclose(found[~rounded_up], best[~rounded_up], rtol=0, atol=1e-7)
    if not signed:
        assert rounded_up.any() and torch.all(codes[x > 0] > 0), "above 0 stays above 0"


@SIGNS
def test_error_bounds(signed: bool) -> None:
    """At most 0.0071 of the scale (0.0036 without a sign), and 7% (4%) of a number above a tenth of the scale."""
    x = spread(100_003, signed=signed)
    back = dequantise(*quantise(x, BLOCK, signed=signed), BLOCK, signed=signed)
    scale = torch.stack([block.abs().max() for block in x.split(BLOCK)]).repeat_interleave(BLOCK)[: len(x)]
    error = (back - x).abs()
    assert (error / scale).max() <= (0.0071 if signed else 0.0036)
    large = x.abs() > 0.1 * scale
    assert (error / x.abs())[large].max() <= (0.07 if signed else 0.04)
    assert torch.all((back == 0) | (back.sign() == x.sign()))
    assert (error.sum() / x.abs().sum()) < 0.015


@settings(max_examples=40, deadline=None)
@given(num=st.integers(0, 1000), block=st.sampled_from([16, 64, 256]), signed=st.booleans())
def test_any_size(num: int, block: int, signed: bool) -> None:
    x = spread(num, signed=signed)
    codes, scales = quantise(x, block, signed=signed)
    assert codes.shape == (num,) and codes.dtype == torch.uint8
    assert scales.shape == (-(-num // block),) and scales.dtype == torch.float32
    whole = dequantise(codes, scales, block, signed=signed)
    parts = [
        dequantise(*quantise(part, block, signed=signed), block, signed=signed) for part in x.split(block) if len(part)
    ]
    assert torch.equal(whole, torch.cat(parts) if parts else x), "a block knows nothing of its neighbours"


def test_zeros_stay_zeros() -> None:
    x = torch.zeros(700)
    x[300] = -2.0
    codes, scales = quantise(x, BLOCK, signed=True)
    back = dequantise(codes, scales, BLOCK, signed=True)
    assert torch.equal(back == 0, x == 0)
    assert scales.tolist() == [0.0, 2.0, 0.0]


def test_fresh_memory_means_zero() -> None:
    """States are made as zero bytes and zero scales, whatever code 0 means."""
    fresh = dequantise(torch.zeros(300, dtype=torch.uint8), torch.zeros(2), BLOCK, signed=True)
    assert not fresh.any()
