"""`fallow judge` from the command line."""

import json
import shlex
import sys
from pathlib import Path

import pytest

from fallow.cli.main import main

JUDGE = shlex.join([sys.executable, str(Path(__file__).parents[1] / "evaluate" / "judges.py"), "length"])


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    for name, texts in (("a", ["long answer", "x", "same"]), ("b", ["short", "longer", "even"])):
        rows = [{"prompt": f"question {i}", "text": text} for i, text in enumerate(texts)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]


def test_win_rate_for_machines_and_people(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verdicts = str(tmp_path / "verdicts.jsonl")
    assert main(["judge", *files, "--judge", JUDGE, "--verdicts", verdicts, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["win_rate"], found["wins"], found["losses"], found["ties"]) == (0.5, 1, 1, 1)
    assert found["low"] < 0.5 < found["high"] and found["num_judged"] == 3
    assert main(["judge", *files, "--judge", JUDGE, "--verdicts", verdicts]) == 0  # nothing is left to ask
    said = capsys.readouterr().out
    assert "wins 50.0% against" in said and "95% interval" in said and "1 won, 1 lost, 1 tied or split" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--judge", "no-such-judge"], "the judge no-such-judge cannot be run"),
        (["--judge", JUDGE, "--ahead", "0"], "--ahead is 0, but it must be at least 1"),
        (["--judge", JUDGE, "--timeout", "0"], "--timeout is 0"),
        ([], "--judge"),
    ],
)
def test_mistakes_are_one_line(
    files: list[str], arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["judge", *files, *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == "" and message in said.err.strip().splitlines()[-1]
