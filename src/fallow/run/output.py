"""The folder of a run: who made it, what is finished in it, and where things lie.

<output>/recipe.yaml            every setting, resolved
<output>/tokenizer/, data/      made once, kept
<output>/<stage>/model/         the finished model, a Hugging Face folder; unmerged where merging would fill zeros
<output>/<stage>/unmerged/      the same with an update kept apart, for a stage that goes on with it
<output>/<stage>/log.jsonl      losses; timing.jsonl beside it
<output>/<stage>/recipe.yaml    the settings of the stage
<output>/<stage>/stage.json     what the stage measured; written last, so its presence means finished
<output>/results.json, report.html
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fallow.config import difference, dump, from_dict, read, to_dict
from fallow.errors import UserError
from fallow.files import make_folder, read_json, remove_folder, sync_folder, write_json, write_text
from fallow.run.recipe import Recipe
from fallow.run.stage import Stage

RECIPE = "recipe.yaml"
FINISHED = "stage.json"
UNMERGED = "unmerged"
_SIGNED = "# Every setting, written by fallow run; --restart may delete this folder.\n"
"""First line of our recipe files: a folder with a recipe that somebody wrote by hand is not ours to empty."""

_SHARED = ("tokenizer", "data")


class Output:
    """The folder of one run.

    Args:
        folder: made when it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def claim(self, recipe: Recipe, *, restart: bool = False) -> None:
        """Make the folder this recipe's own, or see that it is already.

        Args:
            recipe: what is to be run.
            restart: empty the folder first, if it is a run's.

        Raises:
            UserError: the folder belongs to another recipe (the differing settings are shown), or to no run at all.
        """
        try:
            if self.folder.exists() and not self.folder.is_dir():
                raise UserError(f"{self.folder} is a file, but the results need a folder. Use another --output.")
            ours = _is_signed(self.folder / RECIPE)
            if not ours and self.folder.exists() and any(self.folder.iterdir()):
                found = (
                    "its recipe.yaml was not written by a run" if (self.folder / RECIPE).exists() else f"no {RECIPE}"
                )
                raise UserError(
                    f"{self.folder} holds other files and {found}. Use another --output, or an empty folder."
                )
            if ours and restart:
                self._clear()
            elif ours:
                self._refuse_another(recipe)
            write_text(self.folder / RECIPE, _SIGNED + dump(recipe))
        except OSError as error:
            raise UserError(f"{self.folder} cannot be written: {error.strerror}. Use another --output.") from error

    def _clear(self) -> None:
        """Remove what runs make, and nothing else that somebody may have put beside it."""
        for path in self.folder.iterdir():
            if path.is_dir() and (path.name in _SHARED or _is_signed(path / RECIPE)):
                shutil.rmtree(path)
            elif path.name in ("results.json", "report.html"):
                path.unlink()

    def _refuse_another(self, recipe: Recipe) -> None:
        try:
            there = from_dict(Recipe, read(self.folder / RECIPE)).identity()
        except UserError as error:
            raise UserError(
                f"{self.folder} was made by a recipe that cannot be read any more ({error}). "
                "Use another --output, or --restart to begin again in an empty folder"
            ) from error
        changed = difference(there, recipe.identity())
        if changed:
            shown = [f"{key} is {old} there and {new} here" for key, (old, new) in list(changed.items())[:3]]
            more = f" (and {len(changed) - 3} more)" if len(changed) > 3 else ""
            raise UserError(
                f"{self.folder} was made by another recipe: {'; '.join(shown)}{more}. "
                "Use another --output, or --restart to begin again in an empty folder"
            )

    @property
    def data(self) -> Path:
        """Folder of shards and pairs."""
        return self.folder / "data"

    def stage(self, name: str) -> Path:
        """Folder of a stage."""
        return self.folder / name

    def model(self, name: str) -> Path:
        """Folder of a stage's finished model."""
        return self.folder / name / "model"

    def unmerged(self, name: str) -> Path | None:
        """Folder of a stage's model with its terms apart, where there is one."""
        apart = self.folder / name / UNMERGED
        return apart if apart.is_dir() else None

    def begin(self, stage: Stage, folder: Path) -> None:
        """Make the folder of a stage, with its settings."""
        make_folder(folder)
        write_text(folder / RECIPE, _SIGNED + dump(stage))

    def finish(self, folder: Path, record: dict[str, Any]) -> None:
        """Write what a stage measured, once all that it leaves is on disk; then drop what only a restart would need."""
        sync_folder(folder)
        write_json(folder / FINISHED, record)
        self.tidy(folder)

    def tidy(self, folder: Path) -> None:
        """Remove the checkpoints of a finished stage: the model stays, the optimizer's state has done its work."""
        for name in ("checkpoints", "best"):
            remove_folder(folder / name)

    def finished(self, folder: Path, needs: Sequence[str] = ("training", "scores")) -> dict[str, Any] | None:
        """What a finished stage or trial measured, else None.

        Args:
            folder: of the stage.
            needs: keys that it must have; by default those of a stage.

        Raises:
            UserError: the record is damaged.
        """
        path = folder / FINISHED
        if not path.exists():
            return None
        hint = "Delete it and run the same command to evaluate again."
        record = read_json(path, hint)
        if missing := [key for key in needs if key not in record]:
            raise UserError(f"{path} is damaged (it has no {missing[0]}). {hint}")
        return record

    def curve(self, folder: Path) -> list[dict[str, Any]]:
        """The log of a stage.

        Raises:
            UserError: a line of it is damaged.
        """
        path = folder / "log.jsonl"
        lines: list[dict[str, Any]] = []
        for raw in path.read_bytes().splitlines() if path.exists() else []:
            try:
                lines.append(dict(json.loads(raw)))
            except (ValueError, TypeError):
                raise UserError(
                    f"{path} is damaged (line {len(lines) + 1}). Restore it, or delete it to go on without its curve."
                ) from None
        return lines


def _is_signed(recipe: Path) -> bool:
    try:
        with recipe.open("rb") as file:
            return file.read(len(_SIGNED)) == _SIGNED.encode()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return False


def stage_dict(stage: Stage) -> dict[str, Any]:
    """The plain values of a stage."""
    plain: dict[str, Any] = to_dict(stage)
    return plain
