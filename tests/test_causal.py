"""A model that sees the token which it has to predict is refused, whatever it is called."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    T5Config,
    T5ForConditionalGeneration,
)

import fallow
from fallow.causal import check_causal
from fallow.cli.main import main
from fallow.data import TokenizerSettings, train_tokenizer
from fallow.errors import UserError
from fallow.folder import build
from tests.conformance.families import CONFIGS, tiny
from tests.run.tiny import write_recipe

SMALL = {
    "vocab_size": 99, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
    "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip
ENCODERS = ("bert", "roberta", "electra", "xlm-roberta", "camembert", "roformer", "megatron-bert", "big_bird")


def model_of(kind: str, **values: Any) -> Any:
    torch.manual_seed(0)
    return build({"model_type": kind, **SMALL, **values})


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ENCODERS)
def test_an_encoder_is_refused_and_what_to_set_is_named(kind: str, dtype: str) -> None:
    with pytest.raises(UserError, match=r"sees the token which it has to predict.* Set is_decoder: true"):
        check_causal(model_of(kind, dtype=dtype), "it")
    check_causal(model_of(kind, dtype=dtype, is_decoder=True), "it")


def test_other_words_for_it() -> None:
    values = {"emb_dim": 16, "n_layers": 1, "n_heads": 2}
    with pytest.raises(UserError, match=r"Set causal: true in its configuration, or use a decoder such as gpt2"):
        check_causal(model_of("xlm", **values), "it")
    check_causal(model_of("xlm", **values, causal=True), "it")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "kind",
    ["llama", "mistral", "mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "gpt_oss", "granitemoe", "mamba", "rwkv",
     "jamba", "recurrent_gemma", "bloom", "falcon", "opt", "gemma2", "gemma3_text", "bart", "gpt_neox", "biogpt"],
)  # fmt: skip
def test_decoders_experts_and_recurrent_models_are_not(kind: str, dtype: str) -> None:
    check_causal(model_of(kind, dtype=dtype, num_hidden_layers=2), "it")


@pytest.mark.parametrize("family", CONFIGS)
def test_the_families_that_are_tested_are_causal(family: str) -> None:
    check_causal(tiny(family), "it")


class Leaking(torch.nn.Module):
    """A causal model to which a little of the last token is added everywhere."""

    def __init__(self, share: float, *, finite: bool = True) -> None:
        super().__init__()
        self.inner = model_of("gpt2", n_embd=16, n_layer=1, n_head=2)
        self.config, self.share, self.finite = self.inner.config, share, finite

    def can_generate(self) -> bool:
        return True

    def get_input_embeddings(self) -> Any:
        return self.inner.get_input_embeddings()

    def forward(self, **inputs: Any) -> Any:
        output = self.inner(**inputs)
        output.logits = output.logits + self.share * output.logits[:, -1:] + (0.0 if self.finite else torch.nan)
        return output


def test_a_leak_is_told_from_rounding() -> None:
    check_causal(Leaking(0.0), "it")
    check_causal(Leaking(1e-7), "it")
    for share in (1e-4, 1e-2, 1.0):
        with pytest.raises(UserError, match=r"sees the token which it has to predict.* Use a decoder"):
            check_causal(Leaking(share), "it")


def test_half_precision_is_asked_again_in_fp32() -> None:
    """Rounding of bf16 is as large as what an encoder leaks; the weights come back to the bit."""
    model = Leaking(3e-3).bfloat16()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(UserError, match="sees the token"):
        check_causal(model, "it")
    assert all(
        tensor.dtype == torch.bfloat16 and torch.equal(tensor, before[n]) for n, tensor in model.state_dict().items()
    )


def test_logits_that_are_no_numbers() -> None:
    with pytest.raises(UserError, match="logits are not finite numbers"):
        check_causal(Leaking(0.0, finite=False), "it")


def test_nothing_is_left_behind() -> None:
    model = model_of("gpt2", n_embd=16, n_layer=1, n_head=2).train()
    model.transformer.h[0].eval()
    modes = {name: module.training for name, module in model.named_modules()}
    state, weights = torch.get_rng_state(), copy.deepcopy(model.state_dict())
    check_causal(model, "it")
    assert torch.equal(state, torch.get_rng_state())
    assert modes == {name: module.training for name, module in model.named_modules()}
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_converted_models_and_those_without_room() -> None:
    model = AutoModelForCausalLM.from_config(GPT2Config(n_layer=1, n_embd=16, n_head=2, vocab_size=99, n_positions=1))
    check_causal(model, "it")
    with torch.device("meta"):
        check_causal(model_of("gpt2"), "it")
    for method, settings in {"sparse": {"sparsity": 0.5}, "lora": {"rank": 2}, "sltrain": {"rank": 2}}.items():
        converted = model_of("llama")
        fallow.convert(converted, method, **settings)
        check_causal(converted, "it")


def test_what_cannot_compute() -> None:
    with pytest.raises(UserError, match="cannot compute logits of 4 tokens"):
        check_causal(model_of("llama", head_dim=3), "it")


def test_encoder_decoders() -> None:
    config = T5Config(d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, vocab_size=99)
    with pytest.raises(UserError, match="T5ForConditionalGeneration, which does not predict the next token"):
        check_causal(T5ForConditionalGeneration(config), "it")
    with pytest.raises(UserError, match="model_type is t5, of which transformers has no causal language model"):
        build({"model_type": "t5"})


def test_a_run_of_an_encoder_is_refused_before_it_trains(tmp_path: Path, capsys: Any) -> None:
    recipe = write_recipe(tmp_path / "recipe")
    text = recipe.read_text()
    old = "{model_type: gpt2, n_layer: 2, n_embd: 32, n_head: 2, n_positions: 64, resid_pdrop: 0.1, attn_pdrop: 0.0}"
    assert old in text
    new = "model_type: bert, num_hidden_layers: 1, hidden_size: 16, num_attention_heads: 2, intermediate_size: 32"
    recipe.write_text(text.replace(old, f"{{{new}}}"))
    assert main(["run", str(recipe), "--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "stage pretrain: model.config holds a BertLMHeadModel that sees the token which it has to predict" in error
    assert not (tmp_path / "out" / "pretrain" / "log.jsonl").exists()
    recipe.write_text(text.replace(old, f"{{{new}, is_decoder: true}}"))
    assert main(["run", str(recipe), "--output", str(tmp_path / "out"), "--restart"]) == 0


def test_an_encoder_is_neither_evaluated_nor_continued(tmp_path: Path, capsys: Any) -> None:
    tokenizer = train_tokenizer(TokenizerSettings(vocab_size=270), ["the cat sat on the mat " * 40], tmp_path)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    BertForMaskedLM(config).save_pretrained(tmp_path)
    (tmp_path / "text.txt").write_text("the cat sat on the mat\n" * 20)
    for command in (
        ["generate", str(tmp_path), "--prompt", "a"],
        ["evaluate", str(tmp_path), "--data", str(tmp_path / "text.txt")],
    ):
        assert main(command) == 2
        assert "which does not predict the next token" in capsys.readouterr().err
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    for command in (
        ["generate", str(tmp_path), "--prompt", "a"],
        ["evaluate", str(tmp_path), "--data", str(tmp_path / "text.txt")],
    ):
        assert main(command) == 2
        assert "sees the token which it has to predict" in capsys.readouterr().err
