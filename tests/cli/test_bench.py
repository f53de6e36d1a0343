"""`fallow bench`: rows in the form that is promised, and mistakes told before anything is timed."""

import json
from pathlib import Path

import pytest

from fallow.cli.main import main
from fallow.linear import remembered

KEYS = ["path", "support", "shape", "tokens", "sparsity", "forward_backward_ms", "ratio_to_dense", "chosen", "why"]
TINY = ["--shape", "32x48", "--tokens", "8", "--sparsity", "0.75"]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(remembered.ENVIRONMENT, str(tmp_path))


def test_json_alone_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "linear", *TINY, "--support", "uniform", "2:4", "transposable", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert all(list(row) == KEYS for row in rows)
    assert {(row["support"], row["sparsity"]) for row in rows} == {
        ("uniform", 0.75),
        ("2:4", 0.5),
        ("transposable", 0.5),
    }
    assert sum(row["chosen"] for row in rows) == 3


def test_paths_that_are_not_timed_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "linear", *TINY, "--device", "cpu", "--precision", "bf16"]) == 0
    assert "GPU paths fused, block, semi_structured are not timed: " in capsys.readouterr().err


def test_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "linear", *TINY]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[0] for line in lines].count("*") == 1
    assert "a stock layer" in lines[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "what is to be timed"),
        (["liner"], 'Did you mean "linear"'),
        (["step"], "which recipe"),
        (["step", "spdf-demo", "--only", "pretrian-75"], 'Did you mean "pretrain-75"'),
        (["linear", "--shape", "768"], "rows x columns"),
        (["linear", "--sparsity", "75"], "below 1"),
        (["linear", "--sparsity"], "needs a value"),
        (["linear", "--tokens", "0"], "at least 1"),
        (["linear", "--device", "tpux"], "Write cpu or cuda"),
        (["linear", "--precision", "bf15"], 'Did you mean "bf16"'),
        (["linear", "--support", "4:2"], "n must be below m"),
        (["linear", "--suport", "uniform"], 'Did you mean "--support"'),
        (["linear", "--shape", "8x8", "--sparsity", "0.9999"], "leaves no entry"),
    ],
)
def test_mistakes(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *words]) == 2
    assert message in capsys.readouterr().err
