"""`fallow tables`: the list, a table, JSON, mistakes, and what it costs."""

import json
import os
import resource
import subprocess
import sys

import pytest

from fallow.accounting.tables import TABLES
from fallow.cli.main import main
from tests.house.source import ROOT

KEYS = {"row": str, "column": str, "paper": (int, float, type(None)), "ours": (int, float), "note": str}


def test_list(capsys) -> None:
    assert main(["tables"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(TABLES)
    assert main(["tables", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == list(TABLES)


@pytest.mark.parametrize("name", TABLES)
def test_json(name: str, capsys) -> None:
    assert main(["tables", name, "--json"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)  # no NaN, no Infinity
    assert found["table"] == name and found["cells"]
    errors = []
    for cell in found["cells"]:
        assert cell.keys() == {*KEYS, "relative_error"}
        assert all(isinstance(cell[key], kind) for key, kind in KEYS.items())
        assert (cell["paper"] is None) == (cell["relative_error"] is None)
        if cell["paper"] is not None:
            assert cell["relative_error"] == pytest.approx(abs(cell["ours"] - cell["paper"]) / cell["paper"])
            errors.append(cell["relative_error"])
    assert found["max_relative_error"] == max(errors)


def test_text(capsys) -> None:
    assert main(["tables", "shearing-shapes"]) == 0
    assert "6,738,415,616" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("sltrain-memroy", 'fallow tables: unknown table "sltrain-memroy". Did you mean "sltrain-memory"?'),
        ("zebra", 'fallow tables: unknown table "zebra". Known: dsee-head-flops, dsee-parameters, shearing-flops'),
        ("--jsn", "fallow tables: Unrecognized options: --jsn"),
    ],
)
def test_mistakes(argument: str, message: str, capsys) -> None:
    assert main(["tables", argument]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(message) and output.err.count("\n") == 1


@pytest.mark.parametrize("name", ["spdf-flops", "shearing-reference-loss"])
def test_it_costs_little_and_builds_nothing_in_memory(name: str) -> None:
    code = f"from fallow.cli.main import main; main(['tables', {name!r}])"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, timeout=60)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 1_500_000  # kilobytes: torch itself, and no weights
