import copy
from pathlib import Path

import pytest
import torch
from transformers import GPT2LMHeadModel

from fallow.data.settings import TokenizerSettings
from fallow.data.tokenizer import train_tokenizer
from fallow.evaluate.decoding import Decoding
from fallow.evaluate.fingerprint import fingerprint, weights_fingerprint


def test_one_weight_is_enough(gpt2: GPT2LMHeadModel) -> None:
    mine = weights_fingerprint(gpt2)
    assert weights_fingerprint(copy.deepcopy(gpt2)) == mine
    other = copy.deepcopy(gpt2)
    with torch.no_grad():
        other.transformer.h[1].mlp.c_fc.bias[3] += 1e-6
    assert weights_fingerprint(other) != mine
    assert weights_fingerprint(copy.deepcopy(gpt2).bfloat16()) != mine


def test_any_kind_of_tensor_counts() -> None:
    module = torch.nn.Module()
    for name, tensor in {
        "a": torch.tensor(3.0),
        "b": torch.zeros(0),
        "c": torch.ones(2, 3).t(),
        "d": torch.tensor([True]),
    }.items():
        module.register_buffer(name, tensor)
    mine = weights_fingerprint(module)
    module.d[0] = False
    assert weights_fingerprint(module) != mine


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> object:
    texts = ["the cat sat on the mat " * 20]
    return train_tokenizer(TokenizerSettings(vocab_size=262), texts, tmp_path_factory.mktemp("tokenizer") / "t")


def test_what_decides_the_texts_counts_and_what_does_not_does_not(
    gpt2: GPT2LMHeadModel, tokenizer: object, tmp_path: Path
) -> None:
    mine = fingerprint(gpt2, tokenizer, Decoding(num_beams=2))
    assert fingerprint(gpt2, tokenizer, Decoding(num_beams=2, batch_size=3, max_contexts=5)) == mine
    for other in ({"num_beams": 3}, {"decoder": "lora"}, {"max_new_tokens": 5}, {"no_repeat_ngram_size": 1}):
        assert fingerprint(gpt2, tokenizer, Decoding(**{"num_beams": 2, **other})) != mine
    texts = ["a dog ran over the hill " * 20]
    another = train_tokenizer(TokenizerSettings(vocab_size=262), texts, tmp_path / "t")
    assert fingerprint(gpt2, another, Decoding(num_beams=2)) != mine
