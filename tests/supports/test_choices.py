"""Supports that are chosen from a weight: planted entries are found, the objective is the paper's, nothing is dense."""

import numpy as np
import pytest
import torch
from torch import Tensor

from fallow.errors import UserError
from fallow.random import Key
from fallow.supports import choose
from fallow.supports.decomposition import decompose, released_positions
from tests.stories import llama2c, stories_folder


def planted(shape: tuple[int, int], size: float, seed: int, entries: int = 16) -> tuple[Tensor, set[int]]:
    """Noise, a component of rank 32 and a few entries of so many standard deviations; not symmetric."""
    draw = torch.Generator().manual_seed(seed)
    weight = 0.04 * torch.randn(shape, generator=draw)
    weight += 0.01 * torch.randn(shape[0], 32, generator=draw) @ torch.randn(32, shape[1], generator=draw)
    positions = torch.randperm(weight.numel(), generator=draw)[:entries]
    signs = torch.randn(entries, generator=draw).sign()
    weight.view(-1)[positions] += size * float(weight.std()) * signs
    return weight, set(positions.tolist())


@pytest.mark.parametrize("shape", [(768, 768), (256, 640), (640, 256)])
def test_planted_entries_are_found(shape: tuple[int, int]) -> None:
    for seed in range(3):
        weight, positions = planted(shape, 8.0, seed)
        found = choose("decomposition", weight, entries=16, rank=16, key=Key(seed))
        assert set(found.tolist()) == positions
        transposed = choose("decomposition", weight.t(), entries=16, rank=16, key=Key(seed))
        rows, columns = np.divmod(np.array(sorted(positions)), shape[1])
        assert set(transposed.tolist()) == set((columns * shape[0] + rows).tolist())


def test_low_rank_hides_entries_that_magnitude_misses() -> None:
    found = {"decomposition": 0, "magnitude": 0, "random": 0}
    for seed in range(4):
        weight, positions = planted((384, 384), 4.0, seed)
        for choice in found:
            chosen = choose(choice, weight, entries=16, rank=16, key=Key(seed))
            found[choice] += len(positions & set(chosen.tolist()))
    assert found["decomposition"] > found["magnitude"] > found["random"]


def objective(weight: Tensor, rank: int, positions: Tensor) -> float:
    """The best 1/2 ||W - U V - S||^2 for entries at these positions, by full decompositions in float64."""
    w, s = weight.double(), torch.zeros_like(weight, dtype=torch.float64)
    for _ in range(30):
        u, d, v = torch.linalg.svd(w - s, full_matrices=False)
        low = (u[:, :rank] * d[:rank]) @ v[:rank]
        s = torch.zeros_like(s)
        s.view(-1)[positions] = (w - low).view(-1)[positions]
    return 0.5 * float((w - low - s).square().sum())


def test_the_objective_is_what_the_parts_give_and_near_what_full_decompositions_reach() -> None:
    weight, _ = planted((96, 160), 6.0, 0, entries=8)
    found = decompose(weight, rank=8, entries=8, key=Key(0))
    assert found.u_mk.shape == (96, 8) and found.v_kn.shape == (8, 160) and found.positions_c.shape == (8,)
    rebuilt = (found.u_mk @ found.v_kn).double()
    rebuilt.view(-1)[found.positions_c] += found.values_c.double()
    assert 0.5 * float((weight - rebuilt).square().sum()) == pytest.approx(found.objective, rel=1e-5)
    assert torch.linalg.matrix_rank(rebuilt - weight) > 8
    assert found.objective <= 1.02 * objective(weight, 8, found.positions_c)
    assert found.objective < objective(weight, 8, torch.arange(8))


def test_real_weights_are_nearer_than_by_low_rank_alone_and_than_with_entries_at_random() -> None:
    model = llama2c().read_model(stories_folder() / "stories260K.bin")
    found: dict[str, list[float]] = {"random": [], "magnitude": []}
    for name, parameter in model.named_parameters():
        if name.endswith(("q_proj.weight", "v_proj.weight")):
            weight = parameter.detach()
            ours = decompose(weight, rank=4, entries=16, key=Key(0, name))
            assert len(ours.positions_c) == 16 and torch.linalg.matrix_rank(ours.u_mk @ ours.v_kn) == 4
            alone = 0.5 * float(torch.linalg.svdvals(weight.double())[4:].square().sum())
            assert ours.objective < 0.96 * alone
            for choice, ratios in found.items():
                at = choose(choice, weight, entries=16, rank=4, key=Key(0, name))
                ratios.append(ours.objective / objective(weight, 4, at))
    assert len(found["random"]) == 10 and max(found["random"]) < 0.97
    assert max(found["magnitude"]) < 1.005 and sum(found["magnitude"]) < 9.8  # the largest are not what is left over


def test_equal_keys_give_equal_entries_and_ranks_beyond_the_matrix_are_cut() -> None:
    weight, _ = planted((24, 40), 3.0, 1, entries=4)
    one, two = (choose("decomposition", weight, entries=4, rank=4, key=Key(3, "h")) for _ in range(2))
    assert torch.equal(one, two)
    assert decompose(weight, rank=100, entries=5, key=Key(0)).u_mk.shape == (24, 24)
    assert not torch.equal(
        choose("random", weight, entries=4, rank=4, key=Key(0)), choose("random", weight, entries=4, rank=4, key=Key(1))
    )


def test_gradients_choose_the_largest_and_ties_go_to_the_first() -> None:
    fisher = torch.tensor([[0.0, 2.0, 2.0], [2.0, 5.0, 0.0]])
    weight = torch.zeros(2, 3)
    assert choose("gradient", weight, entries=3, rank=1, key=Key(0), fisher=fisher).tolist() == [1, 2, 4]
    assert choose("magnitude", -fisher, entries=1, rank=1, key=Key(0)).tolist() == [4]
    with pytest.raises(UserError, match="needs the mean squared gradients"):
        choose("gradient", weight, entries=3, rank=1, key=Key(0))


def test_the_released_procedure_runs_as_published_and_never_gives_a_dense_mask() -> None:
    weight, positions = planted((96, 96), 8.0, 0, entries=8)
    released = released_positions(weight, entries=8, key=Key(0), rounds=15)  # rank 71 of 96, as 496 of 768
    assert len(released) == 8 and len(set(released.tolist()) & positions) <= 4
    assert set(choose("decomposition", weight, entries=8, rank=8, key=Key(0)).tolist()) == positions
    with pytest.raises(UserError, match=r"finds 0 entries above its threshold of 0.01, but entries is 8"):
        released_positions(0.001 * weight, entries=8, key=Key(0))


@pytest.mark.parametrize(
    ("choice", "entries", "message"),
    [
        ("magnitude", 100, "entries is 100, but a matrix of 4 x 6 has only 24"),
        ("magnitud", 4, 'Did you mean "magnitude"'),
    ],
)
def test_mistakes_are_named(choice: str, entries: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        choose(choice, torch.randn(4, 6), entries=entries, rank=1, key=Key(0))
