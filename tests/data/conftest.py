"""Small things to read, a small tokenizer, and where the development data lies."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from fallow.data.settings import TokenizerSettings
from fallow.data.tokenizer import train_tokenizer
from tests.data.helpers import story


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    folder = tmp_path_factory.mktemp("tokenizer") / "small"
    return train_tokenizer(TokenizerSettings(vocab_size=300), [story(i) for i in range(40)], folder)


@pytest.fixture(scope="session")
def other_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    folder = tmp_path_factory.mktemp("tokenizer") / "other"
    return train_tokenizer(TokenizerSettings(vocab_size=280), [story(i) for i in range(40)], folder)


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """A file of the development data, or a skipped test."""

    def find(name: str) -> Path:
        root = os.environ.get("FALLOW_DEV_DATA") or Path(__file__).resolve().parents[3] / "shared"
        path = Path(root) / "data" / name
        if not path.exists():
            pytest.skip(f"development data absent: {path}")
        return path

    return find
