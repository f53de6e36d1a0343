"""Reading real outputs and their official scores."""

import importlib.util
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

needs_meteor = pytest.mark.skipif(
    shutil.which("java") is None or importlib.util.find_spec("pycocoevalcap") is None,
    reason="needs Java and pycocoevalcap",
)


@dataclass(frozen=True)
class Official:
    """Outputs of a system, references, and what the official scripts say."""

    hypotheses: list[str]
    references: list[list[str]]
    scores: dict[str, Any]
    folder: Path


def folder(name: str) -> Path:
    root = os.environ.get("FALLOW_DEV_DATA") or Path(__file__).resolve().parents[3] / "shared"
    path = Path(root) / "data" / "metrics" / name
    if not path.is_dir():
        pytest.skip(f"development data is not at {path}")
    return path


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")


def blocks(path: Path) -> list[list[str]]:
    return [block.split("\n") for block in path.read_text(encoding="utf-8").strip().split("\n\n")]


def streams(path: Path) -> list[list[str]]:
    return [list(group) for group in zip(*(lines(path / f"reference{n}.txt") for n in range(3)), strict=True)]
