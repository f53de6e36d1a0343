"""Moments of another number of processes, read by one."""

import pytest
import torch

from fallow.train.optimizers.moments import NAMES, Moments
from fallow.train.optimizers.quantisation import quantise


@pytest.mark.parametrize("shape", [(17,), (7, 5), (2, 3), (9,)])
@pytest.mark.parametrize("processes", [2, 3, 5])
def test_blocks_of_other_shards_mean_the_same(shape: tuple[int, ...], processes: int) -> None:
    """What three processes wrote in blocks of their shards is, to rounding, what one has in blocks of the whole."""
    block = 4
    moments = Moments(block)
    whole = torch.randn(shape, generator=torch.Generator().manual_seed(0)).abs() + 0.1
    rows = -(-shape[0] // processes)
    codes, scales = torch.zeros(shape, dtype=torch.uint8), torch.zeros(processes, -(-rows * whole[0].numel() // block))
    for rank in range(processes):
        part = whole[rank * rows : (rank + 1) * rows]
        own, scale = quantise(part.reshape(-1), block, signed=True)
        codes[rank * rows : (rank + 1) * rows] = own.view(part.shape)
        scales[rank, : len(scale)] = scale
    state = {"exp_avg": codes, "exp_avg_scale": scales}
    moments.settle(state, torch.zeros(shape))
    assert state["exp_avg_scale"].shape == (1, -(-whole.numel() // block))
    found = moments.read(state, "exp_avg")
    assert float((found / whole.view(-1) - 1).abs().max()) < 2 * 0.0705
    before = {key: value.clone() for key, value in state.items()}
    moments.settle(state, torch.zeros(shape))
    assert all(torch.equal(before[key], value) for key, value in state.items()), "nothing is left to do"


def test_moments_in_full_need_no_settling() -> None:
    state = Moments().empty(torch.zeros(3, 2))
    Moments().settle(state, torch.zeros(3, 2))
    assert set(state) == set(NAMES) and all(value.dtype == torch.float32 for value in state.values())
