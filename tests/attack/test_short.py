"""A sample of the attack: `make attack` has the whole."""

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.attack.cases import BAD, Result, counts_of, spread, table
from tests.run.tiny import ROOT, environment

LEAST = {"kills": 15, "power": 12, "mutations": 10, "security": 10, "kernels": 200}
"""Area -> cases that the short form has at least."""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Counts and failures. A process of its own: one that has computed with several threads must not fork."""
    path = tmp_path_factory.mktemp("attack") / "found.json"
    command = [
        sys.executable,
        "-m",
        "tests.attack",
        "--short",
        "--only",
        "kills",
        "power",
        "mutations",
        "kernels",
        "security",
        "--json",
        str(path),
    ]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=600)
    assert path.is_file(), done.stderr
    facts: dict[str, Any] = json.loads(path.read_text())
    return facts


@pytest.mark.parametrize("area", LEAST)
def test_it_holds(area: str, found: dict[str, Any]) -> None:
    assert [failure for failure in found["failures"] if failure["area"] == area] == []
    assert sum(found["counts"][area].values()) >= LEAST[area]


def test_the_table_counts_kills_not_runs() -> None:
    results = [
        Result(area="kills", name="a", outcome="held", weight=5),
        Result(area="kills", name="b", outcome="refusal", weight=5),
        Result(area="security", name="c", outcome="breach"),
    ]
    assert counts_of(results)["all"] == {"held": 5, "refusal": 5, "breach": 1}
    assert [r.is_bad for r in results] == [False, True, True]
    head, *rows = table(results).splitlines()
    assert head.split() == ["area", "cases", "held", "refusal", "breach"] and rows[0].split() == [
        "kills",
        "10",
        "5",
        "5",
        "0",
    ]
    assert set(BAD) >= {"silent", "loss"} and spread(range(10), 3) == [0, 3, 6] and spread([1], 3) == [1]
