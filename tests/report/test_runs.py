import json
from pathlib import Path
from typing import Any

import pytest

from fallow.errors import UserError
from fallow.report.runs import read_run
from tests.report.make_runs import results, without_the_last_stage, write


def test_a_folder_and_its_file_are_the_same_run(tmp_path: Path) -> None:
    write(tmp_path, results(3, 2.0))
    run, again = read_run(tmp_path), read_run(tmp_path / "results.json")
    assert (run.title, run.seed, run.unfinished) == ("demo", "3", ())
    assert run.results == again.results
    assert [(state.label, state.loss, state.tokens) for state in run.stages] == [
        ("sparse", 2.5, 300),
        ("tuned", 2.0, 300),
    ]


def test_seeds_of_stages_are_told_where_they_differ(tmp_path: Path) -> None:
    plain = results(3, 2.0)
    plain["recipe"]["stages"][1]["seed"] = 8
    assert read_run(write(tmp_path, plain)).seed == "3 (3, 8)"


def test_an_unfinished_stage_is_read_from_its_log(tmp_path: Path) -> None:
    write(tmp_path, without_the_last_stage(results(0, 2.0)))
    (tmp_path / "tune").mkdir()
    lines = [
        {"step": 1, "tokens": 10, "loss": 9.0},
        {"step": 1, "tokens": 10, "valid": {"loss": 8.5}},
        {"step": 2, "tokens": 20, "loss": 8.0},
        {"step": 2, "tokens": 20, "valid": {"loss": 7.5}},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines) + '{"step": 3, "tok'  # just being written
    (tmp_path / "tune" / "log.jsonl").write_text(text)
    run = read_run(tmp_path)
    state = run.stages[1]
    assert (state.status, state.steps, state.tokens, state.loss) == ("begun", 2, 20, 7.5)
    shown = {(c["label"], c["kind"]): c["points"] for c in run.results["curves"] if "unfinished" in c["label"]}
    assert shown[("tuned (unfinished)", "valid")] == [[10, 8.5], [20, 7.5]]
    assert shown[("tuned (unfinished)", "train")] == [[10, 9.0], [20, 8.0]]


def test_a_file_without_a_recipe_is_a_run_too(tmp_path: Path) -> None:
    plain = results(0, 2.0)
    del plain["recipe"], plain["stages"]
    run = read_run(write(tmp_path / "old", plain))
    assert run.title.endswith("old") and run.stages == ()


BROKEN: dict[str, tuple[Any, str]] = {
    "recipe": ("text", "recipe is not a mapping"),
    "columns": ({"key": 1}, "columns is not a list"),
    "rows": ([3], "rows.0 is not a mapping"),
    "curves": ([{"label": "a"}], "curves.0 has no points"),
    "stages": ({"pre": {}}, "stages.pre has no training"),
}


@pytest.mark.parametrize("key", BROKEN)
def test_parts_that_are_wrong_are_named(tmp_path: Path, key: str) -> None:
    value, message = BROKEN[key]
    with pytest.raises(UserError, match=message) as caught:
        read_run(write(tmp_path, {**results(0, 2.0), key: value}))
    assert "results.json" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("points", [[[1]], [[1, "2"]], {"1": 2}, [1, 2], [[None, 2.0]]])
def test_points_that_are_none(tmp_path: Path, points: Any) -> None:
    plain = results(0, 2.0)
    plain["curves"][1]["points"] = points
    with pytest.raises(UserError, match="curves.1.points are not pairs of numbers"):
        read_run(write(tmp_path, plain))


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '{"columns": []}', "\x00\x01"])
def test_files_that_are_no_results(tmp_path: Path, text: str) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(UserError) as caught:
        read_run(tmp_path)
    assert "\n" not in str(caught.value)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_run(tmp_path / "nope")
