"""`fallow compare`: table, files, JSON, mistakes."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from fallow.cli.main import main
from tests.conformance.families import tiny


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A GPT-2, and the same with one matrix turned."""
    folder = tmp_path_factory.mktemp("models")
    model: Any = tiny("gpt2")
    model.save_pretrained(folder / "before")
    with torch.no_grad():
        model.transformer.h[1].mlp.c_proj.weight.add_(0.02)
    model.save_pretrained(folder / "after")
    return str(folder / "before"), str(folder / "after")


def test_table(pair, capsys) -> None:
    assert main(["compare", *pair]) == 0
    output = capsys.readouterr().out
    assert "MLP out" in output and "cosine" in output
    assert "The matrix that turned most is MLP out of layer 1" in output


def test_files(pair, tmp_path: Path, capsys) -> None:
    target = tmp_path / "new" / "folder"
    assert main(["compare", *pair, "--output", str(target), "--rank", "4"]) == 0
    assert {path.name for path in target.iterdir()} == {"comparison.json", "comparison.html"}
    assert json.loads((target / "comparison.json").read_text())["rank"] == 4
    page = (target / "comparison.html").read_text()
    assert "<script" not in page
    assert "Singular values" in page and "Residuals after low rank" in page
    assert "comparison.html" in capsys.readouterr().out


def test_json(pair, capsys) -> None:
    assert main(["compare", *pair, "--json", "--spectra", "none"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    moved = [(m["layer"], m["matrix"]) for m in found["matrices"] if m["distance"] != 0]
    assert moved == [(1, "out")]
    assert found["spectra"] == []


def test_mistakes(pair, tmp_path: Path, capsys) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "run" / "model").mkdir(parents=True)
    (tmp_path / "run" / "model" / "config.json").write_text("{}")
    cases = [
        ([pair[0]], "missing|required"),
        ([pair[0], str(tmp_path / "nope")], "nope is not a folder"),
        ([pair[0], str(tmp_path / "run")], "Did you mean .*run/model"),
        ([*pair, "--rank", "33"], "rank is 33, but it must be between 1 and 32"),
        ([*pair, "--rank", "-1"], "rank is -1"),
        ([*pair, "--rank", "4", "--spectra", "none"], "--rank has no effect"),
        ([*pair, "--output", str(tmp_path / "file")], "is a file"),
        ([*pair, "--spectra", "al"], "spectra"),
    ]
    for arguments, message in cases:
        assert main(["compare", *arguments]) == 2, arguments
        output = capsys.readouterr()
        assert output.out == "" and output.err.count("\n") == 1
        assert re.search(message, output.err), output.err


def test_folders_that_are_not_comparable(pair, tmp_path: Path, capsys) -> None:
    tiny("opt").save_pretrained(tmp_path / "opt")
    capsys.readouterr()
    assert main(["compare", pair[0], str(tmp_path / "opt")]) == 2
    output = capsys.readouterr()
    assert "not comparable (the first is gpt2, the second opt)" in output.err
    assert "h.0.attn.c_attn.bias" in output.err and output.err.count("\n") == 1
