"""One-shot pruning of single weights against closed forms, dense solves, and a row at a time."""

import pytest
import torch

from fallow.errors import UserError
from fallow.pruning import Sparsify, sparsify
from fallow.pruning.sparsegpt import sparsegpt
from tests.conformance.families import tokens
from tests.shearing.tiny import model_of


def inputs(num: int, width: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(1)
    mixed = torch.randn(num, width, generator=draw, dtype=torch.float64)
    return mixed @ torch.randn(width, width, generator=draw, dtype=torch.float64)


def damped(moments: torch.Tensor, damp: float) -> torch.Tensor:
    return moments + damp * moments.diagonal().mean() * torch.eye(len(moments), dtype=moments.dtype)


def test_what_is_left_of_one_choice_is_the_least_squares_solution() -> None:
    """Pruned columns first: then every later one makes up for all of them, as a dense solve does."""
    x = inputs(200, 16)
    moments = x.t() @ x / len(x)
    weight = torch.randn(5, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    weight[:, :8] *= 1e-3
    found = sparsegpt(weight, moments, sparsity=0.5, pattern=None, damp=1e-6)
    assert (found[:, :8] == 0).all() and (found[:, 8:] != 0).all()
    h = damped(moments, 1e-6)
    solved = weight[:, 8:] + torch.linalg.solve(h[8:, 8:], h[8:, :8] @ weight[:, :8].t()).t()
    torch.testing.assert_close(found[:, 8:], solved, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("pattern", [None, (2, 4)])
def test_every_step_is_that_of_optimal_brain_surgery(pattern) -> None:
    """One entry at a time, with a dense inverse of what is left; over more than one block of columns."""
    x = inputs(400, 136)
    moments, damp = x.t() @ x / len(x), 0.01
    weight = torch.randn(3, 136, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = sparsegpt(weight, moments, sparsity=0.5, pattern=pattern, damp=damp)
    h, w = damped(moments, damp), weight.clone()
    gone = found == 0
    for j in range(136):
        inverse = torch.linalg.inv(h[j:, j:])
        if pattern is not None and j % 4 == 0:
            cost = torch.stack([w[:, i] ** 2 / torch.linalg.inv(h[i:, i:])[0, 0] for i in range(j, j + 4)], 1)
            assert torch.equal(gone[:, j : j + 4].nonzero()[:, 1].view(3, 2), cost.argsort(1)[:, :2].sort(1).values)
        step = torch.where(gone[:, j], w[:, j], 0.0)[:, None] / inverse[0, 0] * inverse[:, 0]
        w[:, j:] -= step
    torch.testing.assert_close(found, w.masked_fill(gone, 0.0), rtol=1e-6, atol=1e-8)
    if pattern is None:
        assert gone[:, :128].sum() == 192 and gone[:, 128:].sum() == 12
    masked = weight.masked_fill(gone, 0.0)
    assert ((found - weight) @ h * (found - weight)).sum() < 0.7 * ((masked - weight) @ h * (masked - weight)).sum()


def test_inputs_that_are_never_read_cost_nothing() -> None:
    x = inputs(50, 8)
    x[:, 3] = 0
    found = sparsegpt(torch.ones(2, 8), x.t() @ x, sparsity=0.25, pattern=None, damp=0.01)
    assert (found[:, 3] == 0).all() and found.dtype == torch.float32


def test_wanda_is_its_formula_row_by_row() -> None:
    model = model_of("llama")
    ids = tokens(4, 13)
    examples = [(ids[:, :-1], ids[:, 1:])]
    name = "model.layers.0.self_attn.o_proj"
    seen = []
    layer = model.get_submodule(name)
    handle = layer.register_forward_pre_hook(lambda module, args: seen.append(args[0].flatten(0, 1)))
    model(ids[:, :-1])
    handle.remove()
    before = layer.weight.detach().clone()
    zeros = sparsify(model, Sparsify(by="wanda", sparsity=0.25), examples)
    # its inputs come through the same block's q, k and v, which are pruned only after all were measured
    for row, (old, new) in enumerate(zip(before, layer.weight, strict=True)):
        score = old.abs() * seen[0].norm(dim=0)
        expected = {int(i) for i in score.argsort()[: len(score) // 4]}
        assert {int(i) for i in (new == 0).nonzero()} == expected, row
    assert all(share == pytest.approx(0.25, abs=0.02) for share in zeros.values())
    assert len(zeros) == 14


@pytest.mark.parametrize("by", ["magnitude", "wanda", "sparsegpt"])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_two_of_four_stay_in_every_group(by: str, name: str) -> None:
    model = model_of(name)
    ids = tokens(4, 13)
    head = model.get_output_embeddings().weight.detach().clone()
    sparsify(model, Sparsify(by=by, pattern="2:4"), [(ids[:, :-1], ids[:, 1:])])
    linear = "model.layers.1.mlp.down_proj" if name == "llama" else "transformer.h.1.mlp.c_proj"
    weight = model.get_submodule(linear).weight
    rows = (weight if name == "llama" else weight.t()).reshape(-1, 4)
    assert ((rows != 0).sum(1) == 2).all()
    assert torch.equal(model.get_output_embeddings().weight, head)


def test_outputs_stay_nearest_with_sparsegpt() -> None:
    ids = tokens(16, 13)
    examples = [(ids[:, :-1], ids[:, 1:])]
    far = {}
    for by in ("magnitude", "wanda", "sparsegpt"):
        model = model_of("llama")
        before = model(ids).logits.detach()
        sparsify(model, Sparsify(by=by), examples)
        far[by] = float((model(ids).logits.detach() - before).norm())
    assert far["sparsegpt"] < min(far["magnitude"], far["wanda"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"by": "wnda"}, "Did you mean wanda"),
        ({"sparsity": 1.0}, "sparsity is 1.0, but it must be above 0 and below 1"),
        ({"pattern": "2:5"}, "pattern is 2:5, but it must be n:m"),
        ({"pattern": "1:4"}, "pattern is 1:4, which prunes 0.75, but sparsity is 0.5"),
        ({"by": "sparsegpt", "damp": 0.0}, "damp is 0.0, but it must be above 0"),
        ({"damp": 0.1}, "damp has no effect by wanda"),
    ],
)
def test_settings_that_cannot_be(settings, message) -> None:
    with pytest.raises(UserError, match=message):
        Sparsify(**settings)


def test_models_and_text_that_do_not_fit() -> None:
    model = model_of("llama")
    with pytest.raises(UserError, match="by wanda measures the model on text"):
        sparsify(model, Sparsify())
    with pytest.raises(UserError, match="reads 32 channels, which pattern 32:64 does not divide"):
        sparsify(model, Sparsify(by="magnitude", pattern="32:64"))
    with pytest.raises(UserError, match="no repeated blocks"):
        sparsify(torch.nn.Linear(4, 4), Sparsify(by="magnitude"))
