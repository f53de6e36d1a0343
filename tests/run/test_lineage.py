"""A result stands for what made it: restarts that are killed, data and results that change between stages."""

import json
import shutil
from pathlib import Path

import pytest

from fallow.cli.main import main
from fallow.files import write_sealed
from fallow.lock import owned
from tests.run.test_integrity import made
from tests.run.tiny import told, write_changed

SHORTER = [("steps: 24", "steps: 3"), ("steps: 16", "steps: 2"), ("warmup: {steps: 4}", "warmup: {steps: 1}")]
SHORTER += [("every: {steps: 6}", "every: {steps: 2}"), ("every: {steps: 4}", "every: {steps: 2}")]


class Killed(BaseException):
    """What no handler catches, as a kill is not."""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_changed(tmp_path_factory.mktemp("recipe"), SHORTER)


@pytest.fixture(scope="module")
def whole(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("runs") / "whole"
    assert main(["run", str(recipe), "--output", str(output)]) == 0
    return output


OTHER = ("--stages.pretrain.seed", "7")


@pytest.mark.parametrize("last", ["pretrain", "results.json", "tokenizer", "tune"])
def test_a_killed_restart_that_is_repeated_gives_the_new_results(
    last: str, recipe: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, new = shutil.copytree(whole, tmp_path / "run"), tmp_path / "new"
    assert main(["run", str(recipe), "--output", str(new), *OTHER]) == 0

    unlink = Path.unlink

    def killed(path: Path) -> None:
        if path.name == last:
            path.rename(path.with_name(f".{path.name}.0123456789abcdef.tmp"))
            raise Killed
        if path.is_dir():
            shutil.rmtree(path)
        else:
            unlink(path)

    with monkeypatch.context() as patch:
        patch.setattr("fallow.run.output.remove_folder", killed)
        if last == "results.json":
            patch.setattr(Path, "unlink", lambda path, **_: killed(path) if path.name != ".lock" else unlink(path))
        with pytest.raises(Killed):
            main(["run", str(recipe), "--output", str(output), "--restart", *OTHER])
    assert main(["run", str(recipe), "--output", str(output), "--restart", *OTHER]) == 0
    assert made(output) == made(new)
    assert not list(output.glob(".*"))


def test_a_stage_of_another_recipe_never_passes_for_this_ones(
    recipe: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "run"
    assert main(["run", str(recipe), "--output", str(output), *OTHER, "--only", "pretrain"]) == 0
    shutil.rmtree(output / "pretrain")
    shutil.copytree(whole / "pretrain", output / "pretrain")
    capsys.readouterr()
    assert main(["run", str(recipe), "--output", str(output), *OTHER]) == 2
    assert "pretrain/stage.json is of a stage that was made by other settings. Delete" in told(capsys)
    for name in ("recipe.yaml", "begun.json"):  # with --restart it is known for a stage all the same
        (output / "pretrain" / name).unlink()
    assert main(["run", str(recipe), "--output", str(output), *OTHER, "--restart", "--only", "pretrain"]) == 0
    assert (output / "pretrain/model/model.safetensors").read_bytes() != (
        whole / "pretrain/model/model.safetensors"
    ).read_bytes()


def test_a_stage_that_begins_with_another_result_is_refused(
    recipe: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, other = shutil.copytree(whole, tmp_path / "run"), tmp_path / "other"
    assert main(["run", str(recipe), "--output", str(other), "--only", "pretrain", *OTHER]) == 0
    path = output / "pretrain" / "stage.json"
    assert main(["run", str(recipe), "--output", str(output)]) == 0
    shutil.rmtree(output / "pretrain")  # made once more it is the same, and what begins with it stays
    assert main(["run", str(recipe), "--output", str(output)]) == 0
    assert made(output) == made(whole)
    record = json.loads(path.read_text())
    record["training"]["pruned"] = {"sparsity": 0.5}
    del record["sha256"]
    write_sealed(path, record)  # another result under the same settings, as another machine may give
    capsys.readouterr()
    assert main(["run", str(recipe), "--output", str(output)]) == 2
    assert "tune/stage.json is of a stage that was made from another result of stage pretrain" in told(capsys)


@pytest.mark.parametrize("place", [0.02, 0.4, 0.97])
@pytest.mark.parametrize("name", ["pairs", "text"])
def test_data_that_changed_between_stages_are_noticed_wherever_they_changed(
    name: str, place: float, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "data"
    shutil.copytree(recipe.parent, home)
    mine = home / recipe.name
    stage = {"pairs": "tune", "text": "pretrain"}[name]
    text = mine.read_text().replace(str(recipe.parent), str(home))
    start = text.index(f"  - name: {stage}")
    more = text[start:].replace(f"name: {stage}", "name: last", 1).partition("  - name: tune")[0]
    mine.write_text(text + more.replace("label: ", "label: last "))
    output = tmp_path / "run"
    assert main(["run", str(mine), "--output", str(output), "--only", stage]) == 0
    data = home / f"{name}.jsonl"
    raw = data.read_bytes()
    at = raw.index(b"a", int(place * len(raw)) - 5)
    data.write_bytes(raw[:at] + b"o" + raw[at + 1 :])
    capsys.readouterr()
    assert main(["run", str(mine), "--output", str(output), "--only", "last"]) == 2
    line = told(capsys)
    if name == "pairs":
        assert "datasets.pairs.train pairs.jsonl has changed since stage tune was trained on it. Restore it" in line
    else:
        assert "holds shards of another text" in line
    data.write_bytes(raw)
    assert main(["run", str(mine), "--output", str(output), "--only", "last"]) == 0


def test_one_run_at_a_time(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "run"
    with owned(output):
        assert main(["run", str(recipe), "--output", str(output)]) == 2
    assert f"{output} is in use by process " in told(capsys)
    assert not list(output.iterdir())


def test_a_first_write_that_was_killed_leaves_a_folder_that_can_be_used(recipe: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    (output / ".recipe.yaml.0123456789abcdef.tmp").mkdir(parents=True)
    (output / ".recipe.yaml.tmp").write_text("half")
    (output / ".lock").write_text("")
    assert main(["run", str(recipe), "--output", str(output), "--only", "pretrain"]) == 0
    assert not list(output.glob(".*"))


def test_results_and_report_are_the_same_after_a_restart(
    recipe: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = shutil.copytree(whole, tmp_path / "run")
    for name in ("results.json", "report.html"):
        (output / name).unlink()
    assert main(["run", str(recipe), "--output", str(output)]) == 0
    for name in ("results.json", "report.html"):
        assert (output / name).read_bytes() == (whole / name).read_bytes(), name
    (output / "results.json").unlink()
    capsys.readouterr()
    assert main(["report", str(output), "--json"]) == 0
    again = capsys.readouterr().out
    assert main(["report", str(whole), "--json"]) == 0
    assert again.replace(str(output), "") == capsys.readouterr().out.replace(str(whole), "")


def test_equal_runs_in_two_places_write_equal_files(recipe: Path, whole: Path, tmp_path: Path) -> None:
    """And nothing in them says where they lie."""
    output = tmp_path / "quite" / "another" / "place"
    assert main(["run", str(recipe), "--output", str(output)]) == 0
    assert made(output) == made(whole)
    for path in output.rglob("*"):
        assert not path.is_file() or str(output).encode() not in path.read_bytes(), path


def test_a_run_of_an_older_fallow_is_refused_in_one_line(
    recipe: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = shutil.copytree(whole, tmp_path / "run")
    path = output / "recipe.yaml"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], *lines[2:]]))
    capsys.readouterr()
    assert main(["run", str(recipe), "--output", str(output)]) == 2
    assert "is of format 1, but this fallow reads format 2). Use another --output, or --restart" in told(capsys)
