"""The state of the random generators that dropout and the like draw from."""

import base64
import random
from typing import Any

import numpy as np
import torch

from fallow.random import Key


def seed_generators(seed: int, rank: int, step: int) -> None:
    """Seed Python's, numpy's and torch's generators from (seed, rank, step)."""
    words = Key(seed, f"train/generators/{rank}/{step}").words(3).tolist()
    random.seed(words[0])
    np.random.seed(words[1] & 0xFFFFFFFF)  # noqa: NPY002 (other people's code draws from it)
    torch.manual_seed(words[2] >> 1)


def generator_state(device: torch.device) -> dict[str, Any]:
    """The states of all generators of this process, as JSON values."""
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002
    state: dict[str, Any] = {
        "python": [version, _encode(np.array(internal, dtype="<u4").tobytes()), gauss],
        "numpy": [name, _encode(np.asarray(keys, dtype="<u4").tobytes()), int(position), int(has_gauss), float(cached)],
        "torch": _encode(torch.get_rng_state().numpy().tobytes()),
    }
    if device.type == "cuda":
        state["cuda"] = _encode(torch.cuda.get_rng_state(device).numpy().tobytes())
    return state


def restore_generators(state: dict[str, Any], device: torch.device) -> None:
    """Put all generators where `generator_state` found them."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(np.frombuffer(_decode(internal), dtype="<u4").tolist()), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, np.frombuffer(_decode(keys), dtype="<u4"), position, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(_tensor(state["torch"]))
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(_tensor(state["cuda"]), device)


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decode(text: str) -> bytes:
    return base64.b64decode(text)


def _tensor(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray(_decode(text)), dtype=torch.uint8)
