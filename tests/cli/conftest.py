from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random GPT-2 of 64 positions with a small byte-level BPE beside it."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from fallow.data import TokenizerSettings, train_tokenizer

    folder = tmp_path_factory.mktemp("model") / "gpt2"
    texts = ["the cat sat on the mat and the dog ran over there to the cat " * 20]
    tokenizer = train_tokenizer(TokenizerSettings(vocab_size=270), texts, folder)
    torch.manual_seed(0)
    config = GPT2Config(
        n_layer=2, n_embd=32, n_head=2, n_positions=64, vocab_size=len(tokenizer), initializer_range=0.3,
        bos_token_id=tokenizer.eos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder
