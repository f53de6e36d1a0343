"""What generated texts depend on."""

import hashlib
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from fallow.data.tokenizer import tokenizer_fingerprint
from fallow.evaluate.decoding import Decoding

_NO_MATTER = ("batch_size", "max_contexts")  # how many at once, and which


def fingerprint(model: nn.Module, tokenizer: Any, decoding: Decoding) -> dict[str, Any]:
    """The weights, the tokenizer, and the settings that decide what is generated, as plain values."""
    settings = {key: value for key, value in asdict(decoding).items() if key not in _NO_MATTER}
    return {"weights": weights_fingerprint(model), "tokenizer": tokenizer_fingerprint(tokenizer), **settings}


def weights_fingerprint(model: nn.Module) -> str:
    """Changes with any number of any weight, its name or its type; the same on every device."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
