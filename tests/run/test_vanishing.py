"""A file or folder of a run that vanishes while it goes ends the run in one line."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fallow.cli.main import main
from fallow.run import vanishing
from fallow.train.callbacks import Signals
from tests.run.tiny import write_recipe

PLACES = {
    "the folder": ".",
    "the recipe": "recipe.yaml",
    "the tokenizer": "tokenizer",
    "the data": "data",
    "the stage": "pretrain",
    "its log": "pretrain/log.jsonl",
    "its recipe": "pretrain/recipe.yaml",
    "its paths": "pretrain/paths.json",
}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_recipe(tmp_path_factory.mktemp("recipe"))
    head, _, _ = path.read_text().partition("  - name: tune")
    path.write_text(head)
    return path


@pytest.fixture
def remove(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, int], None]:
    """Removes a path after a step, by a callback that comes before the one that looks."""

    def at(path: Path, step: int) -> None:
        def on_step(self: Signals, loop: Any, record: Any) -> None:
            if record.step == step:
                assert path.exists()
                shutil.rmtree(path) if path.is_dir() else path.unlink()

        monkeypatch.setattr(Signals, "on_step", on_step)

    return at


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
def test_what_vanishes_is_an_error_at_once(
    place: str,
    recipe: Path,
    tmp_path: Path,
    remove: Callable[[Path, int], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "run"
    monkeypatch.setattr(vanishing, "_EVERY", 0.0)
    remove(output / place, 7)
    assert main(["run", str(recipe), "--output", str(output)]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert str(output / place) in line
    assert "vanished while" in line or "was removed while" in line
    assert not (output / "results.json").exists()


def test_between_two_looks_the_next_checkpoint_finds_it(
    recipe: Path, tmp_path: Path, remove: Callable[[Path, int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    remove(tmp_path / "run" / "tokenizer", 24)  # the last step
    assert main(["run", str(recipe), "--output", str(tmp_path / "run")]) == 2
    assert "tokenizer" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run" / "pretrain" / "stage.json").exists()
