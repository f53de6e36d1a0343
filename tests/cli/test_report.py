"""`fallow report`: one run, several seeds, a run that was broken off, mistakes."""

import json
import re
import shutil
from pathlib import Path

import pytest

from fallow.cli.main import main
from tests.report.make_runs import results, write
from tests.run.tiny import run, write_recipe


@pytest.fixture
def seeds(tmp_path: Path) -> list[str]:
    return [str(write(tmp_path / f"seed-{n}", results(n, loss))) for n, loss in enumerate((2.0, 4.0))]


def test_page_and_table(seeds, tmp_path: Path, capsys) -> None:
    assert main(["report", *seeds, "--output", str(tmp_path / "out" / "page.html")]) == 0
    output = capsys.readouterr().out
    assert "3.000 +- 1.414" in output and "The same remark." in output and "page.html" in output
    assert "1.414" in (tmp_path / "out" / "page.html").read_text()


def test_the_page_lands_here_by_default(seeds, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", seeds[0]]) == 0
    assert (tmp_path / "report.html").is_file()
    (tmp_path / "report.html").unlink()
    assert main(["report", seeds[0], "--json"]) == 0
    assert not (tmp_path / "report.html").exists()


def test_json(seeds, capsys) -> None:
    assert main(["report", *seeds, "--json"]) == 0
    found = json.loads(capsys.readouterr().out.split("Report:")[0], parse_constant=pytest.fail)
    assert found["rows"][0]["loss"] == {"mean": 3.0, "spread": pytest.approx(2**0.5)}
    assert found["groups"] == [{"title": "demo", "seeds": ["0", "1"], "folders": seeds}]


def test_mistakes(seeds, tmp_path: Path, capsys) -> None:
    (tmp_path / "empty").mkdir()
    broken = write(tmp_path / "broken", {})
    (broken / "results.json").write_text("{")
    damaged = write(tmp_path / "damaged", {**results(0, 1.0), "curves": [{}]})
    for arguments, message in [
        ([], "which run?"),
        ([str(tmp_path / "nope")], "nope does not exist"),
        ([str(tmp_path / "empty")], "is no run: it holds neither results.json nor recipe.yaml"),
        ([str(broken)], "results.json is not JSON"),
        ([str(damaged)], "results.json is damaged: curves.0 has no label"),
        ([seeds[0], seeds[0] + "/"], "named twice"),
        ([seeds[0], "--output", str(tmp_path)], "is a folder"),
    ]:
        assert main(["report", *arguments]) == 2, arguments
        output = capsys.readouterr()
        assert output.out == "" and output.err.count("\n") == 1
        assert re.search(re.escape(message), output.err), output.err


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real run of which the first stage of two is finished."""
    folder = tmp_path_factory.mktemp("half")
    done = run(write_recipe(folder / "in"), folder / "run", "--only", "pretrain")
    assert done.returncode == 0, done.stderr
    return folder / "run"


def report(folder: Path, capsys) -> dict:
    assert main(["report", str(folder), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_real_run(half: Path, capsys) -> None:
    found = report(half, capsys)
    stored = json.loads((half / "results.json").read_text())
    assert [row["arm"] for row in found["rows"]] == ["sparse"]
    assert found["rows"][0]["flops"] == stored["rows"][0]["flops"]
    (chart,) = found["charts"]
    training = stored["stages"]["pretrain"]["training"]
    valid = next(curve for curve in chart["curves"] if curve["kind"] == "valid")
    # the last point of the curve stands at the FLOPs of the stage
    assert valid["points"][-1][0] * valid["flops_per_token"] == pytest.approx(training["flops"])
    assert chart["costs"][0]["bytes"] == stored["rows"][0]["bytes"]
    assert [state["status"] for state in found["stages"]] == ["finished", "not begun"]


def test_a_run_that_wrote_no_results_yet(half: Path, tmp_path: Path, capsys) -> None:
    """As a run that was killed in its second stage leaves its folder."""
    killed = tmp_path / "killed"
    shutil.copytree(half, killed, ignore=shutil.ignore_patterns("data", "tokenizer", "results.json"))
    (killed / "tune").mkdir()
    (killed / "tune" / "log.jsonl").write_text('{"step": 1, "tokens": 8, "loss": 5.5}\n')
    found, whole = report(killed, capsys), report(half, capsys)
    assert found["rows"] == whole["rows"]
    assert found["stages"][1]["status"] == "begun" and found["stages"][1]["loss"] == 5.5
    assert any(curve["label"] == "then dense (unfinished)" for chart in found["charts"] for curve in chart["curves"])


def test_the_folder_of_a_stage_is_not_the_run(half: Path, capsys) -> None:
    assert main(["report", str(half / "pretrain")]) == 2
    assert f"Did you mean {half}?" in capsys.readouterr().err
