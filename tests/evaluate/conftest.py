import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel


@pytest.fixture(scope="session")
def gpt2() -> GPT2LMHeadModel:
    """A random two-layer GPT-2 whose logits are not flat, so that a wrong position or mask changes them."""
    torch.manual_seed(1)
    config = GPT2Config(
        n_layer=2,
        n_embd=32,
        n_head=2,
        n_positions=64,
        vocab_size=97,
        initializer_range=0.4,
        bos_token_id=0,
        eos_token_id=0,
    )
    return GPT2LMHeadModel(config).eval()
