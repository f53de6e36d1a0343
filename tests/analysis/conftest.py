from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.conformance.families import tiny

Make = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Make:
    """Saves a tiny model of a family, after something was done to it."""
    count = 0

    def make(family: str = "gpt2", change: Callable[[nn.Module], object] | None = None) -> Path:
        nonlocal count
        count += 1
        model = tiny(family)
        if change is not None:
            with torch.no_grad():
                change(model)
        path = tmp_path / f"{count}-{family}"
        model.save_pretrained(path)
        return path

    return make
