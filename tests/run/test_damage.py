"""A run's folder in bad hands: what is damaged is named in one line, what is somebody else's stays, nothing is lost."""

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from fallow.cli.main import main
from fallow.files import read_sealed, write_sealed
from tests.run.tiny import told, write_changed

SHORTER = [("steps: 24", "steps: 4"), ("steps: 16", "steps: 2"), ("warmup: {steps: 4}", "warmup: {steps: 1}")]
SHORTER += [("every: {steps: 6}", "every: {steps: 2}"), ("every: {steps: 4}", "every: {steps: 2}")]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_changed(tmp_path_factory.mktemp("recipe"), SHORTER)


@pytest.fixture(scope="module")
def whole(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; copied by those who harm it."""
    output = tmp_path_factory.mktemp("runs") / "whole"
    assert main(["run", str(recipe), "--output", str(output)]) == 0
    return output


def files(output: Path) -> dict[str, bytes]:
    """What must come out the same whatever happened on the way."""
    names = [f"{stage}/{name}" for stage in ("pretrain", "tune") for name in ("model/model.safetensors", "log.jsonl")]
    return {name: (output / name).read_bytes() for name in names}


def shard(output: Path) -> Path:
    return min(output.glob("data/**/shard-*.bin"))


def overwrite(name: str, content: str | bytes) -> Callable[[Path], None]:
    return lambda output: (
        (output / name).write_bytes(content.encode() if isinstance(content, str) else content) and None
    )


def cut(name: str) -> Callable[[Path], None]:
    return lambda output: (output / name).write_bytes((output / name).read_bytes()[:-20]) and None


def change_index(**values: Any) -> Callable[[Path], None]:
    def harm(output: Path) -> None:
        path = shard(output).parent / "index.json"
        write_sealed(path, {**read_sealed(path, ""), **values})  # by a hand that knows of the checksum

    return harm


def change_text_bytes(output: Path) -> None:
    path = shard(output).parent / "index.json"
    path.write_text(path.read_text().replace('"text_bytes": ', '"text_bytes": 1'))


def swap_merges(output: Path) -> None:
    path = output / "tokenizer" / "tokenizer.json"
    facts = json.loads(path.read_text())
    merges = facts["model"]["merges"]
    merges[0], merges[1] = merges[1], merges[0]
    path.write_text(json.dumps(facts))


@pytest.mark.parametrize(
    ("again", "harm", "message"),
    [
        ("", overwrite("tune/stage.json", ""), "tune/stage.json is damaged"),
        ("", overwrite("tune/stage.json", "[]"), "tune/stage.json is damaged"),
        (
            "",
            overwrite("tune/stage.json", "{}"),
            "tune/stage.json is of format 1, but this fallow reads format 2. Delete",
        ),
        ("", overwrite("tune/log.jsonl", b"\xff"), "tune/log.jsonl was changed or is damaged"),
        (
            "",
            cut("pretrain/log.jsonl"),
            "Restore it, or delete it to go on without it",
        ),
        ("tune", cut("pretrain/model/model.safetensors"), "pretrain/model/model.safetensors was changed or is damaged"),
        ("tune", overwrite("pretrain/model/config.json", ""), "pretrain/model/config.json was changed or is damaged"),
        ("tune", overwrite("pretrain/model/fallow-stage.json", "[]"), "fallow-stage.json was changed or is damaged"),
        ("tune", lambda output: shutil.rmtree(output / "pretrain" / "model"), "same command trains the stage again"),
        ("tune", swap_merges, "tokenizer/tokenizer.json was changed or is damaged"),
        ("tune", overwrite("tokenizer/tokenizer.json", ""), "tokenizer/tokenizer.json was changed or is damaged"),
        ("pretrain", lambda output: shard(output).write_bytes(b""), "is damaged (0 bytes, expected"),
        ("pretrain", lambda output: shard(output).write_bytes(b"x" + shard(output).read_bytes()[1:]), "(checksum"),
        ("pretrain", change_text_bytes, "index.json was changed or is damaged"),
        ("pretrain", change_index(dtype="float64"), "index.json is damaged"),
        ("pretrain", change_index(shards=[]), "index.json is damaged"),
        (
            "pretrain",
            change_index(shards=[{"file": "../x", "num_tokens": 1, "num_documents": 1, "sha256": ""}]),
            "index.json is damaged",
        ),
    ],
)
def test_damage_is_one_line(
    again: str,
    harm: Callable[[Path], Any],
    message: str,
    recipe: Path,
    whole: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = shutil.copytree(whole, tmp_path / "run")
    if again:
        (output / again / "stage.json").unlink()  # this stage is to be made once more
    harm(output)
    capsys.readouterr()
    assert main(["run", str(recipe), "--output", str(output)]) == 2
    assert message in told(capsys)


FULL = OSError(errno.ENOSPC, "No space left on device")
FULL_IN_RUST = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize(
    ("where", "error", "message"),
    [
        ("transformers.PreTrainedModel.save_pretrained", FULL_IN_RUST, "pretrain/model"),
        ("transformers.PreTrainedTokenizerFast.save_pretrained", Exception(str(FULL_IN_RUST)), "tokenizer"),
        ("fallow.run.output.write_sealed", FULL, "disk is full"),
        ("fallow.run.orchestrate.write_sealed", FULL, "disk is full"),
    ],
)
def test_a_full_disk_and_then_room(
    where: str,
    error: Exception,
    message: str,
    recipe: Path,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise error

    command = ["run", str(recipe), "--output", str(tmp_path / "run")]
    with monkeypatch.context() as patch:
        patch.setattr(where, full)
        assert main(command) == 2
    line = told(capsys)
    assert "the disk is full" in line
    assert message in line
    assert main(command) == 0
    assert files(tmp_path / "run") == files(whole)
    assert not [path for path in (tmp_path / "run").rglob("*") if path.name.endswith((".tmp", ".partial"))]


def test_a_folder_that_is_not_a_runs_is_never_emptied(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The recipe lies in the folder that it writes to, beside other work: easily done, and --restart was fatal."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "recipe.yaml").write_text(recipe.read_text())
    (mine / "thesis.tex").write_text("years of work")
    for flags in ([], ["--restart"]):
        assert main(["run", str(mine / "recipe.yaml"), "--output", str(mine), *flags]) == 2
        assert "its recipe.yaml was not written by a run. Use another --output" in told(capsys)
    assert (mine / "recipe.yaml").read_text() == recipe.read_text()
    assert (mine / "thesis.tex").exists()


def test_restart_removes_what_runs_make_and_nothing_else(recipe: Path, whole: Path, tmp_path: Path) -> None:
    output = shutil.copytree(whole, tmp_path / "run")
    (output / "notes.txt").write_text("mine")
    (output / "plots").mkdir()
    (output / "tune" / "old").touch()
    assert main(["run", str(recipe), "--output", str(output), "--restart"]) == 0
    assert (output / "notes.txt").exists()
    assert (output / "plots").exists()
    assert not (output / "tune" / "old").exists()
    assert files(output) == files(whole)


def test_no_network_and_no_pickle_of_others(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a run reached for the network")

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    for name in ("socket.socket.connect", "socket.getaddrinfo", "socket.create_connection"):
        monkeypatch.setattr(name, refuse)
    assert main(["run", str(recipe), "--output", str(tmp_path / "run")]) == 0, capsys.readouterr().err
