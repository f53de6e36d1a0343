"""The small pretrained model of the development data, for tests that want real weights."""

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).resolve().parents[1]


def stories_folder() -> Path:
    """The files of stories260K; skips the test where they are absent."""
    shared = Path(os.environ.get("FALLOW_DEV_DATA") or _ROOT.parent / "shared")
    folder = shared / "models" / "stories260K"
    if not (folder / "golden.json").exists():
        pytest.skip(f"development data absent: {folder}")
    return folder


def llama2c() -> Any:
    """The example that reads them."""
    spec = importlib.util.spec_from_file_location("llama2c", _ROOT / "benchmarks" / "llama2c.py")
    assert spec is not None and spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    return example
