"""Which rows of a weight are Q, K and V is told by the model itself: some scalings do not change what it computes."""

import pytest
import torch
from torch import Tensor, nn

from fallow.analysis.families import FAMILIES, KINDS, family_of, split
from fallow.errors import UserError
from tests.conformance.families import tiny, tokens


def places(model: nn.Module, layer: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Of each matrix: the flat weight that it lies in, and its places there."""
    config, parameters = model.config, dict(model.named_parameters())
    family, found = family_of(config.to_dict()), {}
    for path, kinds in family.matrices.items():
        name = f"{family.prefix}.{family.blocks}.{layer}.{path}.weight"
        weight = parameters[name]
        index = torch.arange(weight.numel()).reshape(weight.shape)
        for kind, part in split(family, kinds, index, config.num_attention_heads).items():
            found[kind] = (weight.data.view(-1), part)
    return found


def scaled(kind: str, **factors: float) -> Tensor:
    """The logits of a model after some matrices of its last block are multiplied; no biases in attention."""
    model = tiny(kind)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") and "norm" not in name.lower() and "ln_" not in name:
                parameter.zero_()
        for matrix, factor in factors.items():
            flat, index = places(model, 1)[matrix.rstrip("_")]
            flat[index.flatten()] *= factor
        return model(tokens()).logits


@pytest.mark.parametrize("kind", FAMILIES)
class TestPlaces:
    def test_every_entry_belongs_to_one_matrix(self, kind: str) -> None:
        found = places(tiny(kind), 0)
        assert set(found) <= set(KINDS) and {"q", "k", "v", "o", "in", "out"} <= set(found)
        by_weight: dict[int, list[Tensor]] = {}
        for flat, index in found.values():
            by_weight.setdefault(flat.data_ptr(), []).append(index.flatten())
        for parts in by_weight.values():
            together = torch.cat(parts)
            assert torch.equal(together.sort().values, torch.arange(len(together)))

    def test_queries_and_keys_make_up_for_each_other(self, kind: str) -> None:
        # Qwen3 divides queries and keys by their norms, to which it adds a little: their scale hardly matters.
        loose = {"atol": 1e-3, "rtol": 0.0} if kind == "qwen3" else {}
        torch.testing.assert_close(scaled(kind, q=4.0, k=0.25), scaled(kind), **loose)

    def test_values_and_the_output_make_up_for_each_other(self, kind: str) -> None:
        torch.testing.assert_close(scaled(kind, v=4.0, o=0.25), scaled(kind))

    def test_each_of_them_matters(self, kind: str) -> None:
        normed = kind == "qwen3"  # which norms queries and keys: their scale is lost
        for matrix in ("v", "o", "in", "out") if normed else ("q", "k", "v", "o", "in", "out"):
            assert not torch.allclose(scaled(kind, **{matrix: 8.0}), scaled(kind), atol=1e-6), matrix


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "qwen3"])
def test_the_way_in_is_not_the_gate(kind: str) -> None:
    torch.testing.assert_close(scaled(kind, **{"in": 4.0, "out": 0.25}), scaled(kind))
    assert not torch.allclose(scaled(kind, gate=4.0, out=0.25), scaled(kind), atol=1e-6)


def test_matrices_are_out_by_in() -> None:
    for kind in FAMILIES:
        found = {name: index.shape for name, (_, index) in places(tiny(kind), 0).items()}
        width = found["q"][1]
        assert found["in"][1] == found["o"][0] == found["out"][0] == width
        assert found["in"][0] == found["out"][1] > width


def test_an_unknown_family_names_the_nearest() -> None:
    with pytest.raises(UserError, match='unknown model_type "lama". Did you mean "llama"?'):
        family_of({"model_type": "lama"})
