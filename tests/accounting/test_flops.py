from collections.abc import Callable

import pytest
import torch
import transformers
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fallow.accounting.anatomy import linear_layers
from fallow.accounting.flops import ceiling, count_flops
from fallow.conversion import convert
from fallow.errors import UserError

CONTEXT = 8


def counter(model: nn.Module, context: int) -> int:
    """torch's own count of one forward pass; the mask is given, so that nothing needs values of meta tensors."""
    device = next(model.parameters()).device
    ids = torch.zeros(1, context, dtype=torch.long, device=device)
    mask = torch.zeros(1, 1, context, context, device=device)
    positions = torch.arange(context, device=device)[None]
    with FlopCounterMode(display=False) as counted:
        model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)
    return counted.get_total_flops()


def test_dense_models_equal_torchs_counter(meta_model: nn.Module) -> None:
    ours = count_flops(meta_model, CONTEXT)
    assert (ours.forward - ours.softmax) * CONTEXT == counter(meta_model, CONTEXT)
    assert ours.linear == ours.linear_dense == ours.linear_executed
    assert (ours.reduction, ours.ceiling, ours.converted_sparsity) == (1, 1, 0)


def test_the_materialise_path_executes_what_a_dense_model_does(make: Callable[..., nn.Module]) -> None:
    model = make("gpt2")
    dense = count_flops(model, CONTEXT)
    convert(model, "sparse", sparsity=0.75)
    sparse = count_flops(model, CONTEXT)
    assert (sparse.forward_executed - sparse.softmax) * CONTEXT == counter(model, CONTEXT)
    assert sparse.forward_executed == sparse.forward_dense == dense.forward
    assert sparse.linear * 4 == dense.linear


def test_the_factored_path_executes_what_is_needed(make: Callable[..., nn.Module]) -> None:
    model = make("llama")
    convert(model, "sparse", sparsity=0.5, path="factored")
    counts = count_flops(model, CONTEXT)
    assert counts.linear_executed == counts.linear == counts.linear_dense // 2


def test_projections_of_embeddings_are_other_and_poolers_are_not_counted(make: Callable[..., nn.Module]) -> None:
    assert count_flops(make("opt-projected"), CONTEXT).other == 2 * 2 * 16 * 8
    config = transformers.BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24, vocab_size=50
    )
    with torch.device("meta"):
        classifier = transformers.BertForSequenceClassification(config)
    counts = count_flops(classifier, CONTEXT)
    assert (counts.other, counts.vocab) == (0, 0)
    assert counts.linear == 2 * (4 * 16 * 16 + 2 * 16 * 24)


def gpt(layers: int, width: int, heads: int) -> nn.Module:
    config = transformers.GPT2Config(n_layer=layers, n_embd=width, n_head=heads, n_positions=2048)
    with torch.device("meta"):
        return transformers.GPT2LMHeadModel(config)


@pytest.mark.parametrize(
    ("shape", "tokens", "dense_total", "sparse_total", "reduction", "share"),
    [
        ((12, 768, 12), 2.5e9, 2.4258e18, 1.470e18, 1.650, 0.525),
        ((24, 2048, 16), 26e9, 236.089e18, 94.78e18, 2.491, 0.798),
    ],
    ids=["GPT-2 Small", "GPT-3 XL"],
)
def test_published_figures_of_spdf(
    shape: tuple[int, int, int], tokens: float, dense_total: float, sparse_total: float, reduction: float, share: float
) -> None:
    """Pre-training at context 2048 and 75% sparsity (SPDF, supplement table 2 without its rounding)."""
    model = gpt(*shape)
    assert count_flops(model, 2048).training * tokens == pytest.approx(dense_total, rel=1e-4)
    convert(model, "sparse", sparsity=0.75)
    counts = count_flops(model, 2048)
    assert counts.training * tokens == pytest.approx(sparse_total, rel=3e-4)
    assert counts.reduction == pytest.approx(reduction, abs=5e-4)
    assert counts.ceiling == pytest.approx(counts.reduction, rel=1e-6)
    assert counts.linear_share == pytest.approx(share, abs=5e-4)


def test_shares_named_in_the_paper() -> None:
    """Section 3.5: attention 13.3% and vocabulary 6.8% of GPT-3 XL at 2048; 13.3% and 27% of GPT-2 Small at 1024."""
    for shape, context, attention, vocab in (((24, 2048, 16), 2048, 0.133, 0.068), ((12, 768, 12), 1024, 0.133, 0.27)):
        counts = count_flops(gpt(*shape), context)
        assert counts.attention / counts.forward == pytest.approx(attention, abs=1e-3)
        assert counts.vocab / counts.forward == pytest.approx(vocab, abs=2e-3)


def test_the_ceiling_is_above_the_reduction_when_only_a_part_is_converted(make: Callable[..., nn.Module]) -> None:
    model = make("llama")
    convert(model, "sparse", sparsity=0.75, targets=("q_proj",))
    counts = count_flops(model, CONTEXT)
    assert counts.converted_sparsity == 0.75
    assert 1 < counts.reduction < counts.ceiling == ceiling(0.75, counts.linear_share)


def test_layers_are_found_once_and_in_their_groups(make: Callable[..., nn.Module]) -> None:
    groups = {layer.name.split(".", 2)[-1]: layer.group for layer in linear_layers(make("opt-projected"))}
    assert groups["layers.0.self_attn.out_proj"] == "attention"
    assert groups["layers.1.fc2"] == "mlp"
    assert groups["project_in"] == "other"
    assert groups["lm_head"] == "head"


def test_json_holds_parts_totals_and_ratios(make: Callable[..., nn.Module]) -> None:
    counts = count_flops(make("gpt2"), CONTEXT)
    plain = counts.to_dict()
    assert (
        plain["training"]
        == 3 * plain["forward"]
        == 3 * (plain["linear"] + plain["attention"] + plain["softmax"] + plain["vocab"] + plain["other"])
    )


def test_bad_input(make: Callable[..., nn.Module]) -> None:
    with pytest.raises(UserError, match="context is 0"):
        count_flops(make("gpt2"), 0)
    with pytest.raises(UserError, match="Linear cannot be counted"):
        count_flops(nn.Linear(2, 2), 4)
