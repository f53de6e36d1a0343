"""Our Adam against torch's, with moments in full and in bytes; what it stores; what it refuses."""

import math
from typing import Any

import pytest
import torch

from fallow.methods.base import edit_optimizer_state
from fallow.train.optimizers.adam import PIECE, Adam
from fallow.train.optimizers.rounding import stream

SETTINGS: dict[str, Any] = {"lr": 0.01, "betas": (0.9, 0.99), "eps": 1e-8}


def parameters(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in shapes]


def give_gradients(mine: list[torch.nn.Parameter], step: int) -> None:
    """The same gradients in every call for a step, of very different sizes within a parameter."""
    generator = torch.Generator().manual_seed(step)
    for p in mine:
        g = torch.randn(p.shape, generator=generator) * torch.exp(torch.randn(p.shape, generator=generator))
        p.grad = g.to(p.dtype)


def run(optimizer: torch.optim.Optimizer, mine: list[torch.nn.Parameter], steps: int) -> None:
    for step in range(steps):
        give_gradients(mine, step)
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * (1 + step % 3)
        optimizer.step()


def test_in_full_it_is_torchs() -> None:
    shapes: list[tuple[int, ...]] = [(7, 5), (PIECE + 100,), (), (0, 4)]
    ours, theirs = parameters(*shapes), parameters(*shapes)

    def grouped(p: list[torch.nn.Parameter]) -> list[dict[str, Any]]:
        return [{"params": p[:2], "weight_decay": 0.1}, {"params": p[2:], "weight_decay": 0.0, "maximize": True}]

    run(Adam(grouped(ours), **SETTINGS), ours, 6)
    run(torch.optim.AdamW(grouped(theirs), **SETTINGS, foreach=False), theirs, 6)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(5000,), (64, 65), (4096,), (4097,), (3, 2731), (2 * PIECE + 77,)])
def test_bytes_of_any_size(shape: tuple[int, ...]) -> None:
    """Two bytes an entry, two fp32 scales a block, the short one too, and a count."""
    mine = parameters(shape)
    optimizer = Adam([{"params": mine}], **SETTINGS, block=256)
    run(optimizer, mine, 1)
    held = sum(t.numel() * t.element_size() for t in optimizer.state[mine[0]].values())
    num = math.prod(shape)
    assert held == 2 * num + 8 * -(-num // 256) + 4
    assert all(isinstance(value, torch.Tensor) for value in optimizer.state[mine[0]].values())


def test_small_parameters_stay_in_full() -> None:
    mine = parameters((4095,), (4096,))
    optimizer = Adam([{"params": mine}], **SETTINGS, block=256)
    run(optimizer, mine, 1)
    assert [optimizer.state[p]["exp_avg"].dtype for p in mine] == [torch.float32, torch.uint8]


def test_in_bytes_it_follows_the_full_one() -> None:
    """The first step is the same, since moments are rounded after it; then the paths stay close together."""
    shape = (90, 100)
    full, small = parameters(shape), parameters(shape)
    start = full[0].detach().clone()
    one, other = Adam([{"params": full}], **SETTINGS), Adam([{"params": small}], **SETTINGS, block=256)
    run(one, full, 1), run(other, small, 1)
    assert torch.equal(full[0], small[0])
    run(one, full, 30), run(other, small, 30)
    way, apart = full[0].detach() - start, (full[0] - small[0]).detach()
    assert float(apart.norm() / way.norm()) < 0.05


def test_no_update_is_divided_by_eps_alone() -> None:
    """The square of a gradient 1/5000 of its block's largest is nearest to 0, and its step would be gradient / eps."""
    mine = parameters((4096,))
    before = mine[0].detach().clone()
    optimizer = Adam([{"params": mine}], lr=0.01, block=256)
    for _ in range(3):
        mine[0].grad = torch.full((4096,), 2e-4)
        mine[0].grad[::256] = 1.0
        optimizer.step()
    assert float((mine[0].detach() - before).abs().max()) < 3.1 * 0.01


def test_bfloat16_weights_take_small_steps() -> None:
    """Weights of 1 under a rate of 1e-4: rounded to the nearest they stand still; rounded at random they move by it."""
    walked = {}
    for streams in (True, False):
        mine = [torch.nn.Parameter(torch.ones(4096, dtype=torch.bfloat16))]
        keys = {mine[0]: stream(0, "w")} if streams else None
        optimizer = Adam([{"params": mine}], lr=1e-4, betas=(0.9, 0.99), streams=keys)
        for _ in range(200):
            mine[0].grad = torch.ones_like(mine[0])
            optimizer.step()
        assert mine[0].dtype == torch.bfloat16 and optimizer.state[mine[0]]["exp_avg"].dtype == torch.float32
        walked[streams] = 1 - float(mine[0].detach().double().mean())
    assert walked[False] == 0.0
    assert walked[True] == pytest.approx(0.02, rel=0.02)


def test_random_rounding_repeats_itself() -> None:
    ends = []
    for seed in (0, 0, 1):
        mine = parameters((40, 50), dtype=torch.bfloat16)
        optimizer = Adam([{"params": mine}], **SETTINGS, streams={mine[0]: stream(seed, "w")})
        run(optimizer, mine, 3)
        ends.append(mine[0].detach())
    assert torch.equal(ends[0], ends[1]) and not torch.equal(ends[0], ends[2])


@pytest.mark.parametrize("block", [0, 256])
def test_found_inf_changes_nothing(block: int) -> None:
    mine = parameters((70, 70))
    optimizer = Adam([{"params": mine}], **SETTINGS, block=block)
    run(optimizer, mine, 2)
    before = [mine[0].detach().clone()] + [v.clone() for k, v in optimizer.state[mine[0]].items() if k != "step"]
    optimizer.found_inf = torch.ones(())
    mine[0].grad = torch.full_like(mine[0], math.nan)
    optimizer.step()
    after = [mine[0].detach()] + [v for k, v in optimizer.state[mine[0]].items() if k != "step"]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("make", [lambda p: torch.optim.AdamW(p), lambda p: Adam([{"params": p}], lr=0.1, block=256)])
def test_moments_can_be_changed_whatever_their_form(make: Any) -> None:
    mine = parameters((80, 64), (3,))
    optimizer = make(mine)
    edit_optimizer_state(optimizer, mine[0], lambda name, moment: moment * 0)  # before the first step: nothing there
    run(optimizer, mine, 1)
    seen: dict[str, torch.Tensor] = {}

    def halve_top(name: str, moment: torch.Tensor) -> torch.Tensor:
        seen[name] = moment.clone()
        moment = moment.clone()
        moment[:40] = 0
        return moment

    edit_optimizer_state(optimizer, mine[0], halve_top)
    assert {name: (m.shape, m.dtype) for name, m in seen.items()} == dict.fromkeys(
        ("exp_avg", "exp_avg_sq"), (torch.Size([80, 64]), torch.float32)
    )
    again: dict[str, torch.Tensor] = {}
    edit_optimizer_state(optimizer, mine[0], lambda name, moment: again.setdefault(name, moment.clone()))
    for name, moment in again.items():
        assert not moment[:40].any()
        torch.testing.assert_close(moment[40:], seen[name][40:], rtol=0.02, atol=0)
    assert optimizer.state[mine[1]]["exp_avg"].any(), "others keep theirs"
