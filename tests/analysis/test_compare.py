import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import fallow
from fallow.analysis.compare import compare
from fallow.analysis.families import FAMILIES
from fallow.analysis.weights import Weights
from fallow.errors import UserError
from tests.conformance.families import tiny

Make = Callable[..., Path]


def entry(found: dict[str, Any], layer: int, matrix: str) -> dict[str, Any]:
    return next(e for e in found["matrices"] if (e["layer"], e["matrix"]) == (layer, matrix))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_has_no_distance_from_itself(folder: Make, family: str) -> None:
    found = compare(folder(family), folder(family))
    assert len(found["matrices"]) == 2 * len(found["kinds"]) >= 12
    assert all(e["distance"] == e["change"] == 0.0 and e["jaccard"] == 1.0 for e in found["matrices"])
    assert all(e["change"] == 0.0 or e["norm_a"] == 0.0 for e in found["tensors"])
    assert found["left_out"] == []
    assert found["notes"] == ["The matrices of all blocks are equal in both models."]
    assert not any("change" in e for e in found["spectra"])
    assert json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.mark.parametrize("family", FAMILIES)
def test_every_tensor_is_looked_at(folder: Make, family: str) -> None:
    """Sizes of matrices and of other tensors add up to the parameters of the model."""
    found = compare(folder(family), folder(family), spectra="none")
    sizes = [e["size"] for e in found["matrices"]] + [math.prod(e["shape"]) for e in found["tensors"]]
    assert sum(sizes) == sum(p.numel() for p in tiny(family).parameters())


def test_a_scaled_matrix_turns_nowhere(folder: Make) -> None:
    found = compare(folder(), folder(change=lambda m: m.transformer.h[1].mlp.c_fc.weight.mul_(4.0)), spectra="none")
    assert entry(found, 1, "in")["distance"] == pytest.approx(0.0, abs=1e-30)
    assert entry(found, 1, "in")["ratio"] == 4.0
    assert entry(found, 1, "in")["change"] == pytest.approx(3.0)
    assert entry(found, 0, "in")["change"] == 0.0
    row = next(row for row in found["rows"] if row["matrix"] == "MLP in")
    norms = [entry(found, layer, "in")["norm_a"] for layer in (0, 1)]
    assert row["ratio"] == pytest.approx(math.hypot(norms[0], 4 * norms[1]) / math.hypot(*norms))
    assert row["change"] == pytest.approx(3 * norms[1] / math.hypot(*norms))


def test_only_the_third_that_changed(folder: Make) -> None:
    """K lies in the middle columns of GPT-2's fused projection."""

    def change(model: Any) -> None:
        model.transformer.h[0].attn.c_attn.weight[:, 32:64].add_(0.01)

    found = compare(folder(), folder(change=change), spectra="none")
    assert {(e["layer"], e["matrix"]) for e in found["matrices"] if e["change"]} == {(0, "k")}
    assert "K of layer 0" in found["notes"][0]


def test_disjoint_supports(folder: Make) -> None:
    def keep(even: bool) -> Callable[[Any], None]:
        def change(model: Any) -> None:
            flat = model.transformer.h[0].mlp.c_proj.weight.view(-1)
            flat[1 if even else 0 :: 2] = 0.0

        return change

    found = compare(folder(change=keep(True)), folder(change=keep(False)), spectra="none")
    out = entry(found, 0, "out")
    assert (out["jaccard"], out["both"], out["share_a"]) == (0.0, 0, 0.0)
    assert out["distance"] == pytest.approx(1.0)  # orthogonal
    assert out["chance"] == pytest.approx(1 / 3)
    assert any("Overlap" in note for note in found["notes"])
    assert "jaccard" in {column["key"] for column in found["columns"]}
    dense = compare(folder(), folder(), spectra="none")
    assert "jaccard" not in {column["key"] for column in dense["columns"]}


def test_spectra_and_residuals_are_those_of_the_weights(folder: Make) -> None:
    a, b = folder("llama"), folder("llama", lambda m: m.model.layers[1].self_attn.o_proj.weight.add_(0.02))
    found = compare(a, b, rank=3)
    part = next(e for e in found["spectra"] if (e["layer"], e["matrix"]) == (1, "o"))
    weight = load_file(a / "model.safetensors")["model.layers.1.self_attn.o_proj.weight"].double()
    assert part["a"]["values"] == pytest.approx(torch.linalg.svdvals(weight).tolist(), rel=1e-10)
    assert part["change"]["values"][0] == pytest.approx(0.02 * 32, rel=1e-5)  # a constant matrix has one direction
    assert part["change"]["rank_90"] == 1
    assert part["a"]["residual"]["share"] == pytest.approx(1 - part["a"]["energy"], abs=1e-10)


def test_the_rank_by_default_is_a_quarter_and_is_checked(folder: Make) -> None:
    a = folder("llama")  # keys and values are 16 x 32
    assert compare(a, a)["rank"] == 4
    with pytest.raises(UserError, match="rank is 17, but it must be between 1 and 16, the smaller side of K"):
        compare(a, a, rank=17)


def test_which_layers_have_spectra(folder: Make) -> None:
    a = folder()
    assert compare(a, a, spectra="none")["spectra"] == [] and compare(a, a, spectra="none")["rank"] is None
    assert {e["layer"] for e in compare(a, a, spectra="all")["spectra"]} == {0, 1}


def test_an_unmerged_folder_is_compared_as_merged(tmp_path: Path, folder: Make) -> None:
    model: Any = tiny("gpt_neox")
    fallow.convert(model, "sparse", sparsity=0.75, seed=3)
    fallow.save(model, tmp_path / "unmerged")
    fallow.save(fallow.merge(model), tmp_path / "merged")
    found = compare(tmp_path / "unmerged", tmp_path / "merged", spectra="none")
    assert all(e["change"] == 0.0 and e["jaccard"] == 1.0 for e in found["matrices"])
    assert sum(e["nonzero_a"] for e in found["matrices"]) == sum(e["size"] for e in found["matrices"]) // 4
    assert (found["a"]["merged"], found["b"]["merged"]) == (False, True)
    assert "A is a folder that is not merged" in found["notes"][-1]


def test_terms_of_an_unmerged_folder(tmp_path: Path) -> None:
    """What a low-rank term gives to each singular value, against the product of its factors."""
    from fallow.linear.reparam import ReparamLinear
    from fallow.linear.terms import LowRank, Sparse, Terms
    from fallow.methods.base import reparam_layers
    from fallow.random import Key
    from fallow.supports import kind_of

    model: Any = tiny("llama")
    fallow.convert(model, "sparse", sparsity=0.75)
    for name, layer in reparam_layers(model).items():
        key = Key(0, name)
        terms = Terms(
            low_rank=LowRank(rank=2, key=key, alpha=4.0),
            sparse=Sparse(kind=kind_of("uniform"), density=0.25, key=key, parts=layer.site.parts),
        )
        weight = nn.Linear(layer.in_features, layer.out_features, bias=False)
        model.set_submodule(name, ReparamLinear.from_layer(weight, layer.site, terms))
        nn.init.normal_(model.get_submodule(name).low_rank_b)
    weights = Weights.__new__(Weights)
    weights.family, weights.config = FAMILIES["llama"], {"model_type": "llama", "num_attention_heads": 4}
    weights._low_rank, weights._tensors = {}, {}
    layers = reparam_layers(model)
    expected = {
        name: 2.0 * (layer.low_rank_b.double() @ layer.low_rank_a.double()).detach() for name, layer in layers.items()
    }
    weights._take(model)
    found = weights.low_rank(1)
    torch.testing.assert_close(found["q"], expected["model.layers.1.self_attn.q_proj"])
    assert set(found) == {"q", "k", "v", "o", "gate", "in", "out"}


class TestNotComparable:
    def test_other_shapes_and_missing_tensors_are_named(self, folder: Make, tmp_path: Path) -> None:
        a, b = folder(), folder()
        tensors = load_file(b / "model.safetensors")
        key = "transformer.h.0.mlp.c_fc.bias"
        tensors["transformer.h.1.extra.weight"] = tensors.pop(key)
        tensors["transformer.h.1.ln_1.weight"] = torch.ones(31)
        save_file(tensors, b / "model.safetensors")
        with pytest.raises(UserError) as caught:
            compare(a, b)
        said = str(caught.value)
        assert f"only in {a}: h.0.mlp.c_fc.bias" in said
        assert f"only in {b}: h.1.extra.weight" in said
        assert "h.1.ln_1.weight is 32 and 31" in said
        assert "\n" not in said

    def test_other_families(self, folder: Make) -> None:
        with pytest.raises(UserError, match="the first is gpt2, the second llama.*h.0.attn.c_attn.bias.* and 2. more"):
            compare(folder("gpt2"), folder("llama"))

    def test_other_depth(self, folder: Make) -> None:
        def shorten(model: Any) -> None:
            del model.transformer.h[1]
            model.config.n_layer = 1

        with pytest.raises(UserError, match=r"only in .*: h\.1\."):
            compare(folder(), folder(change=shorten))

    def test_heads_and_vocabularies_may_differ(self, folder: Make) -> None:
        found = compare(folder(), folder(change=lambda m: m.resize_token_embeddings(99)), spectra="none")
        assert found["left_out"] == ["wte.weight: [96, 32] and [99, 32]"]
        assert "Not compared" in found["notes"][-1]


class TestBadFolders:
    def test_quantised(self, folder: Make) -> None:
        a = folder()
        config = json.loads((a / "config.json").read_text())
        (a / "config.json").write_text(json.dumps(config | {"quantization_config": {"bits": 4}}))
        with pytest.raises(UserError, match="quantised"):
            compare(a, a)

    def test_not_finite(self, folder: Make) -> None:
        with pytest.raises(UserError, match=r"h\.0\.mlp\.c_fc\.weight holds values that are not finite"):
            compare(folder(), folder(change=lambda m: m.transformer.h[0].mlp.c_fc.weight[0, 0].fill_(math.nan)))

    def test_integers(self, folder: Make) -> None:
        a = folder()
        tensors = load_file(a / "model.safetensors")
        tensors["transformer.h.0.mlp.c_fc.weight"] = tensors["transformer.h.0.mlp.c_fc.weight"].to(torch.int8)
        save_file(tensors, a / "model.safetensors")
        with pytest.raises(UserError, match="not weights that can be compared"):
            compare(a, a)

    @pytest.mark.parametrize(("content", "message"), [(b"x" * 100, "damaged"), (None, "no model.safetensors")])
    def test_damaged(self, folder: Make, content: bytes | None, message: str) -> None:
        a = folder()
        path = a / "model.safetensors"
        path.unlink() if content is None else path.write_bytes(content)
        with pytest.raises(UserError, match=message):
            compare(a, a)

    def test_broken_config(self, folder: Make) -> None:
        a = folder()
        (a / "config.json").write_text("{")
        with pytest.raises(UserError, match="not JSON"):
            compare(a, a)

    def test_an_unknown_family(self, folder: Make) -> None:
        a = folder()
        (a / "config.json").write_text('{"model_type": "lama"}')
        with pytest.raises(UserError, match='unknown model_type "lama". Did you mean "llama"?'):
            compare(a, a)


def test_names_without_a_head_fit_those_with_one(folder: Make, tmp_path: Path) -> None:
    tiny("bert").bert.save_pretrained(tmp_path / "bare")
    found = compare(folder("bert"), tmp_path / "bare", spectra="none")
    assert all(e["change"] == 0.0 for e in found["matrices"])
    assert all(name.startswith("cls.") for name in found["left_out"])


def test_shards_are_read(folder: Make, tmp_path: Path) -> None:
    tiny("llama").save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    found = compare(folder("llama"), tmp_path / "shards", spectra="none")
    assert all(e["change"] == 0.0 for e in found["matrices"])
