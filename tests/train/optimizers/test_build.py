import pytest
import torch
import transformers

from fallow.errors import UserError
from fallow.train import Optimizer
from fallow.train.gradients import clip_, norm
from fallow.train.optimizers import build_optimizer, set_rate
from tests.train.tiny import Method, TinyModel


def groups(decay: str) -> dict[str, tuple[float, float]]:
    model = TinyModel()
    optimizer = build_optimizer(model, Method(), Optimizer(lr=0.5, weight_decay=0.1, decay=decay))  # type: ignore[arg-type]
    set_rate(optimizer, 0.25)
    names = {id(p): name for name, p in model.named_parameters()}
    return {
        names[id(p)]: (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]
    }


def test_each_parameter_has_its_rate_and_decay() -> None:
    found = groups("matrices")
    assert len(found) == len(list(TinyModel().named_parameters()))
    assert found["blocks.0.values"] == (1.0, 0.1)
    assert found["blocks.0.linear.weight"] == found["embedding.weight"] == (0.25, 0.1)
    assert found["blocks.0.linear.bias"] == found["blocks.1.norm.weight"] == (0.25, 0.0)


@pytest.mark.parametrize("tied", [True, False])
def test_embeddings_and_head_have_a_rate_of_their_own(tied: bool) -> None:
    config = transformers.LlamaConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, vocab_size=32,
        tie_word_embeddings=tied,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    optimizer = build_optimizer(model, Method(), Optimizer(lr=0.5, embedding_scale=8.0))
    set_rate(optimizer, 0.25)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    found = {name for name, parameter in model.named_parameters() if rates[id(parameter)] == 2.0}
    assert found == {"model.embed_tokens.weight"} | (set() if tied else {"lm_head.weight"})
    assert {rates[id(p)] for name, p in model.named_parameters() if name not in found} == {0.25}


def test_a_rate_for_embeddings_that_nobody_trains_is_an_error() -> None:
    model = TinyModel()
    model.embedding.weight.requires_grad_(False)
    with pytest.raises(UserError, match="embedding_scale has no effect"):
        build_optimizer(model, Method(), Optimizer(lr=0.5, embedding_scale=8.0))
    with pytest.raises(UserError, match="must be above 0"):
        Optimizer(lr=0.5, embedding_scale=0.0)


def test_everything_decays_when_asked() -> None:
    assert {decay for _, decay in groups("all").values()} == {0.1}


def test_frozen_parameters_are_left_out() -> None:
    model = TinyModel()
    model.embedding.weight.requires_grad_(False)
    optimizer = build_optimizer(model, Method(), Optimizer(lr=0.5))
    assert all(p.requires_grad for group in optimizer.param_groups for p in group["params"])


def test_decoupled_decay_uses_the_multiplied_rate() -> None:
    model = TinyModel()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = build_optimizer(model, Method(), Optimizer(lr=0.1, weight_decay=0.5))
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    torch.testing.assert_close(model.blocks[0].values.data, before["blocks.0.values"] * (1 - 4 * 0.1 * 0.5))
    torch.testing.assert_close(model.blocks[0].linear.weight.data, before["blocks.0.linear.weight"] * (1 - 0.1 * 0.5))


@pytest.mark.parametrize("limit", [0.0, 0.5, 1e9])
def test_clipping_is_torchs(limit: float) -> None:
    torch.manual_seed(0)
    model = TinyModel()
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    ours = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    length = float(norm(ours))
    clip_(ours, length, limit)
    expected = torch.nn.utils.clip_grad_norm_(model.parameters(), limit or 1e9)
    assert length == pytest.approx(float(expected))
    for own, p in zip(ours, model.parameters(), strict=True):
        torch.testing.assert_close(own, p.grad)


def test_the_norm_is_taken_in_fp32() -> None:
    ones = [torch.ones(1000, dtype=torch.bfloat16) for _ in range(5)]
    assert float(norm(ones)) == pytest.approx(5000**0.5, rel=1e-6)
    assert float(norm([torch.empty(0), torch.ones(4)])) == 2.0
