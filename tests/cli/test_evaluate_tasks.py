"""`fallow evaluate --tasks`."""

import json
from pathlib import Path

import pytest

from fallow.cli.main import main
from tests.evaluate.local_task import write_tasks


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("lm_eval", reason="lm-eval is not installed (extra eval)")
    import datasets

    datasets.config.HF_DATASETS_CACHE = str(tmp_path_factory.mktemp("cache"))
    return write_tasks(tmp_path_factory.mktemp("tasks"))


def test_local_tasks(tasks: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", str(model_folder), "--tasks", "cats", "--task-path", str(tasks), "--shots", "1"]
    assert main([*command, "--limit", "4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["benchmarks"]
    assert found["asked"] == ["cats"] and found["limit"] == 4
    assert (found["tasks"]["cats"]["num"], found["tasks"]["cats"]["shots"]) == (4, 1)
    assert main([*command, "--limit", "4"]) == 0
    said = capsys.readouterr().out
    assert "cats  acc " in said and "(4 questions, 1 shots)" in said and "asked by lm-eval" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tasks", "catz"], "there is no task catz"),
        (["--tasks", "cats", "--data", "x.txt"], "--data has no effect on tasks"),
        (["--tasks", "cats", "--num-beams", "3"], "--num-beams has no effect on tasks"),
        (["--preset", "sheared-llama", "--shots", "3"], "shots has no effect with preset"),
        (["--data", "x.txt", "--shots", "3"], "--shots has no effect on text. Remove it, or name --tasks"),
        (["--shots", "3"], "needs --data"),
    ],
)
def test_mistakes_are_one_line(
    tasks: Path, model_folder: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = ["--task-path", str(tasks)] if "--tasks" in arguments else []
    assert main(["evaluate", str(model_folder), *arguments, *path]) == 2
    said = capsys.readouterr()
    assert said.out == "" and message in said.err.strip().splitlines()[-1]
