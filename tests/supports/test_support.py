"""Supports: exact counts, the pattern each kind promises, compact bytes, and the same draw everywhere."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fallow.errors import UserError
from fallow.random import Key
from fallow.supports import Block, Kind, NofM, Support, Transposable, Uniform, Vector, kind_of, layer_densities


def as_mask(support: Support) -> torch.Tensor:
    mask = torch.zeros(support.shape[0] * support.shape[1], dtype=torch.bool)
    mask[support.flat()] = True
    return mask.view(support.shape)


@settings(deadline=None)
@given(rows=st.integers(1, 40), columns=st.integers(1, 60), density=st.floats(0, 1), seed=st.integers(0, 9))
def test_uniform_is_exact(rows: int, columns: int, density: float, seed: int) -> None:
    support = Uniform().draw((rows, columns), density, Key(seed, "w"))
    assert support.nnz == round(density * rows * columns) == int(as_mask(support).sum())
    flat = support.flat()
    assert bool((flat.diff() > 0).all())


@pytest.mark.parametrize(("kind", "density"), [(NofM(2, 4), 0.5), (NofM(1, 4), 0.25), (NofM(4, 8), 0.5)])
def test_n_of_m(kind: NofM, density: float) -> None:
    mask = as_mask(kind.draw((6, 24), density, Key(0, "w")))
    assert (mask.view(6, -1, kind.m).sum(-1) == kind.n).all()


def test_transposable_is_two_of_four_in_both_directions() -> None:
    mask = as_mask(Transposable().draw((48, 64), 0.5, Key(0, "w")))
    assert (mask.view(48, -1, 4).sum(-1) == 2).all() and (mask.t().reshape(64, -1, 4).sum(-1) == 2).all()


def test_every_transposable_tile_is_equally_likely() -> None:
    """90 tiles; chi-squared of their counts over 36,864 draws, which is below 135 in 999 of 1,000 cases."""
    mask = as_mask(Transposable().draw((768, 768), 0.5, Key(1, "w")))
    tiles = mask.view(192, 4, 192, 4).transpose(1, 2).reshape(-1, 16).long() @ (2 ** torch.arange(16))
    counts = tiles.bincount().double()
    counts = counts[counts > 0]
    assert len(counts) == 90
    assert float(((counts - counts.mean()) ** 2 / counts.mean()).sum()) < 135


def test_vector_and_block_tiles_are_full_or_empty() -> None:
    vector = as_mask(Vector(4).draw((16, 30), 0.3, Key(0, "w"))).view(4, 4, 30)
    assert (vector == vector[:, :1]).all()
    block = as_mask(Block(4).draw((16, 32), 0.3, Key(0, "w"))).view(4, 4, 8, 4)
    assert (block == block[:, :1, :, :1]).all()
    assert int(block.sum()) == round(0.3 * 16 * 32 / 16) * 16


@pytest.mark.parametrize("kind", [Uniform(), Vector(4), Block(4), NofM(1, 4)])
def test_other_keys_give_other_supports(kind: Kind) -> None:
    shape = (32, 64)
    same, again = (kind.draw(shape, 0.25, Key(0, "h.0.fc")) for _ in range(2))
    assert same.digest() == again.digest()
    assert kind.draw(shape, 0.25, Key(1, "h.0.fc")).digest() != same.digest()
    assert kind.draw(shape, 0.25, Key(0, "h.1.fc")).digest() != same.digest()
    overlap = (as_mask(same) & as_mask(kind.draw(shape, 0.25, Key(1, "h.0.fc")))).sum().item() / same.nnz
    assert 0.1 < overlap < 0.4  # independent draws share about a density of their entries


def test_the_draw_does_not_depend_on_the_process() -> None:
    program = (
        "import torch; torch.manual_seed(7); from fallow.random import Key; from fallow.supports import Uniform;"
        "print(Uniform().draw((64, 96), 0.3, Key(5, 'x')).digest())"
    )
    digest = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
    assert digest == Uniform().draw((64, 96), 0.3, Key(5, "x")).digest()


def test_bytes() -> None:
    narrow = Uniform().draw((64, 1024), 0.25, Key(0))
    assert narrow.columns.dtype == torch.uint16
    assert narrow.num_bytes == 2 * narrow.nnz + 4 * 65
    assert narrow.num_bytes / narrow.nnz < 2.3
    wide = Uniform().draw((2, 65_537), 0.1, Key(0))
    assert wide.columns.dtype == torch.int32
    assert Uniform().draw((2, 65_536), 1.0, Key(0)).columns.to(torch.int64).max() == 65_535


def test_save_and_load(tmp_path: Path) -> None:
    support = Block(2).draw((8, 8), 0.5, Key(0))
    support.save(tmp_path / "s.safetensors")
    assert Support.load(tmp_path / "s.safetensors").digest() == support.digest()
    content = bytearray((tmp_path / "s.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "s.safetensors").write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        Support.load(tmp_path / "s.safetensors")
    (tmp_path / "s.safetensors").write_bytes(content[:20])
    with pytest.raises(UserError, match="not a support"):
        Support.load(tmp_path / "s.safetensors")


def test_stack_counts_each_part() -> None:
    parts = [Uniform().draw((4, 8), 0.5, Key(i)) for i in range(3)]
    stacked = Support.stack(parts)
    assert torch.equal(as_mask(stacked), torch.cat([as_mask(part) for part in parts]))


@pytest.mark.parametrize(
    ("text", "shape", "message"),
    [
        ("vector:3", (8, 8), "multiple of 3 rows, but this matrix has 8"),
        ("block:3", (9, 8), "multiple of 3 columns, but this matrix has 8"),
        ("1:4", (8, 6), "multiple of 4 columns"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(text: str, shape: tuple[int, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        kind_of(text).draw(shape, 0.25, Key(0))


def test_kinds_by_name() -> None:
    with pytest.raises(UserError, match='Did you mean "uniform"'):
        kind_of("uniforn")
    with pytest.raises(UserError, match="must be 1 to 4"):
        kind_of("5:4")
    with pytest.raises(UserError, match="sparsity 0.5 in every layer"):
        kind_of("2:4").draw((4, 4), 0.25, Key(0))


@settings(deadline=None)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), min_size=1, max_size=6),
    density=st.floats(0.01, 1),
    distribution=st.sampled_from(["uniform", "er", "erk"]),
)
def test_layer_densities_hold_the_total(shapes: list[tuple[int, int]], density: float, distribution: str) -> None:
    named = {str(i): shape for i, shape in enumerate(shapes)}
    densities = layer_densities(named, density, distribution)
    sizes = np.array([a * b for a, b in shapes])
    assert all(0 <= d <= 1 + 1e-9 for d in densities.values())
    assert np.dot(sizes, list(densities.values())) == pytest.approx(density * sizes.sum())


def test_erdos_renyi_by_hand() -> None:
    # eps * (64 + 64) + eps * (64 + 16) entries must be a quarter of 5120: eps = 1280 / 208
    densities = layer_densities({"a": (64, 64), "b": (64, 16)}, 0.25, "er")
    assert densities["a"] == pytest.approx(1280 / 208 * 128 / 4096)
    with pytest.raises(UserError, match='Did you mean "erk"'):
        layer_densities({}, 0.5, "errk")
