"""GaLore against the algorithm of the paper written down once more, and against Adam where the two must agree."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn

from fallow.errors import UserError
from fallow.train.optimizers import GaLore, GaLore8bit, build_optimizer
from fallow.train.optimizers.adam import Adam
from fallow.train.optimizers.projection import basis_of, project, project_back
from tests.train.tiny import Method

BETAS, LR = (0.9, 0.99), 0.01


def gradient(shape: tuple[int, int], step: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(step))


def by_hand(shape: tuple[int, int], settings: GaLore, steps: int) -> torch.Tensor:
    """Algorithm 2 of the paper with float64 and explicit loops; `released` as its code does it."""
    w = torch.ones(shape, dtype=torch.float64)
    m = v = basis = None
    (b1, b2), tall = settings.betas, shape[0] >= shape[1]
    for t in range(steps):
        g = gradient(shape, t).double()
        if t % settings.every == 0:
            u, _, vh = torch.linalg.svd(g, full_matrices=False)
            basis = vh[: settings.rank] if tall else u[:, : settings.rank]
        r = g @ basis.T if tall else basis.T @ g
        m = (1 - b1) * r if m is None else b1 * m + (1 - b1) * r
        v = (1 - b2) * r * r if v is None else b2 * v + (1 - b2) * r * r
        c1, c2 = 1 - b1 ** (t + 1), 1 - b2 ** (t + 1)
        if settings.preset == "paper":
            n = (m / c1) / ((v / c2).sqrt() + settings.eps)
        else:
            n = m / (v.sqrt() + settings.eps) * math.sqrt(c2) / c1
        back = n @ basis if tall else basis @ n
        w = w * (1 - settings.lr * settings.weight_decay) - settings.lr * settings.scale * back
    return w


@pytest.mark.parametrize("preset", ["paper", "released"])
@pytest.mark.parametrize("shape", [(6, 10), (10, 6), (8, 8)])
def test_it_is_the_papers_algorithm(shape: tuple[int, int], preset: Any) -> None:
    settings = GaLore(lr=LR, betas=BETAS, eps=1e-3, weight_decay=0.1, rank=3, every=4, scale=0.25, preset=preset)
    weight = nn.Parameter(torch.ones(shape))
    group = {"params": [weight], "projection": settings, "weight_decay": 0.1}
    optimizer = Adam([group], lr=LR, betas=BETAS, eps=settings.eps)
    for t in range(10):
        weight.grad = gradient(shape, t)
        optimizer.step()
    torch.testing.assert_close(weight.double(), by_hand(shape, settings, 10), rtol=1e-5, atol=1e-6)
    other = GaLore(lr=LR, betas=BETAS, eps=1e-3, weight_decay=0.1, rank=3, every=4, preset="paper")
    if preset == "released":
        assert not torch.allclose(weight.double(), by_hand(shape, other, 10), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(6, 10), (10, 6)])
def test_at_full_rank_it_is_adam_in_rotated_coordinates(shape: tuple[int, int]) -> None:
    """P is square and orthonormal, so P^T W follows Adam on P^T G; Adam itself depends on the coordinates."""
    weight = nn.Parameter(torch.ones(shape))
    settings = GaLore(lr=LR, betas=BETAS, rank=6, every=100, scale=1.0)
    optimizer = Adam([{"params": [weight], "projection": settings}], lr=LR, betas=BETAS)
    basis = basis_of(gradient(shape, 0), 6)
    rotated = nn.Parameter(project(weight.detach(), basis))
    adam = torch.optim.AdamW([rotated], lr=LR, betas=BETAS, weight_decay=0.0)
    for t in range(8):
        weight.grad, rotated.grad = gradient(shape, t), project(gradient(shape, t), basis)
        optimizer.step(), adam.step()
    torch.testing.assert_close(weight.detach(), project_back(rotated.detach(), basis, shape), rtol=1e-4, atol=1e-5)


def test_the_basis_is_orthonormal_and_best() -> None:
    for shape in ((5, 9), (9, 5)):
        g = gradient(shape, 3)
        basis = basis_of(g, 3)
        torch.testing.assert_close(basis.t() @ basis, torch.eye(3), atol=1e-6, rtol=0)
        lost = torch.linalg.norm(g - project_back(project(g, basis), basis, shape))
        torch.testing.assert_close(lost, torch.linalg.svdvals(g)[3:].norm())


class Net(nn.Module):
    """Two blocks of two matrices, and an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(9, 8)
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(8, 12), nn.Linear(12, 8)) for _ in range(2)])


def made(settings: GaLore) -> tuple[Net, Any]:
    torch.manual_seed(0)
    net = Net()
    return net, build_optimizer(net, Method(), settings)


def test_matrices_of_the_blocks_are_projected_and_nothing_else() -> None:
    net, optimizer = made(GaLore(lr=LR, rank=4))
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    shapes = {name: tuple(optimizer.state[p]["exp_avg"].shape) for name, p in net.named_parameters()}
    assert shapes["blocks.0.0.weight"] == (12, 4) and shapes["blocks.0.1.weight"] == (4, 12)
    assert shapes["embedding.weight"] == (9, 8) and shapes["blocks.1.0.bias"] == (12,)
    assert optimizer.state[net.blocks[0][0].weight]["projector"].shape == (8, 4)
    every = [value for state in optimizer.state.values() for value in state.values()]
    assert all(isinstance(value, torch.Tensor) for value in every)
    net, optimizer = made(GaLore(lr=LR, rank=4, targets=("blocks.1.*",)))
    assert [len(g["params"]) for g in optimizer.param_groups if g["projection"]] == [2]


def test_in_bytes_it_follows_the_full_one() -> None:
    shape, ends = (96, 200), []
    for block in (0, 256):
        weight = nn.Parameter(torch.zeros(shape))
        settings = GaLore(lr=LR, rank=48, every=10)
        optimizer = Adam([{"params": [weight], "projection": settings}], lr=LR, betas=BETAS, block=block)
        for t in range(20):
            weight.grad = gradient(shape, t)
            optimizer.step()
        ends.append(weight.detach())
        assert optimizer.state[weight]["exp_avg"].dtype == (torch.uint8 if block else torch.float32)
    assert float((ends[0] - ends[1]).norm() / ends[0].norm()) < 0.05


def test_what_cannot_be_projected_is_refused() -> None:
    with pytest.raises(UserError, match=r"optimizer.rank is 9, but blocks.0.0.weight is 12 x 8. Write at most 8"):
        made(GaLore(lr=LR, rank=9))
    with pytest.raises(UserError, match=r"found none: targets \"wq\" match nothing in Net"):
        made(GaLore8bit(lr=LR, rank=2, targets=("wq",)))
    frozen = Net().requires_grad_(False)
    frozen.embedding.weight.requires_grad_(True)
    with pytest.raises(UserError, match="every matrix that it would project is frozen"):
        build_optimizer(frozen, Method(), GaLore(lr=LR, rank=2))
    import fallow

    sparse = Net()
    fallow.convert(sparse, "sparse", sparsity=0.5)
    with pytest.raises(UserError, match="Sparse and low-rank layers have none; write optimizer.name: adamw8bit"):
        build_optimizer(sparse, Method(), GaLore(lr=LR, rank=2))


def test_a_gradient_that_is_not_finite_is_not_decomposed() -> None:
    weight = nn.Parameter(torch.ones(6, 8))
    optimizer = Adam([{"params": [weight], "projection": GaLore(lr=LR, rank=2, every=1)}], lr=LR)
    weight.grad = gradient((6, 8), 0)
    optimizer.step()
    before = copy.deepcopy((weight.detach(), optimizer.state[weight]["projector"]))
    optimizer.found_inf = torch.ones(())
    weight.grad = torch.full((6, 8), math.nan)
    optimizer.step()
    assert torch.equal(weight.detach(), before[0])
    assert torch.equal(optimizer.state[weight]["projector"], before[1])
