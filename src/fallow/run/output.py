"""The folder of a run: who made it, what is finished in it, and where things lie.

<output>/recipe.yaml            every setting, resolved, and a checksum
<output>/tokenizer/, data/      made once, kept
<output>/<stage>/model/         the finished model, a Hugging Face folder; unmerged where merging would fill zeros
<output>/<stage>/unmerged/      the same with an update kept apart, for a stage that goes on with it
<output>/<stage>/log.jsonl      losses; timing.jsonl beside it
<output>/<stage>/recipe.yaml    the settings of the stage
<output>/<stage>/begun.json     what the stage is made from, to continue it only with that
<output>/<stage>/stage.json     what the stage measured; written last, so its presence means finished
<output>/results.json, report.html
<output>/.lock                  while a run works here: which one

What is read again is guarded: a record (begun.json, stage.json, paths.json and so on) by a checksum of itself, other
files of a finished stage by the checksums in its stage.json, a checkpoint by its manifest, the log of an unfinished
stage by its checkpoint, texts and verdicts of an unfinished judgement line by line. Not guarded, since nothing reads
them: report.html (made anew), recipe.yaml of a stage, timing.jsonl, README.md of a model, tensorboard/, and what people
put beside.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fallow.config import difference, dump, from_dict, parse, to_dict, write
from fallow.errors import UserError
from fallow.files import (
    is_temporary,
    make_folder,
    read_json,
    read_sealed,
    remove_folder,
    sweep,
    sync_folder,
    write_sealed,
    write_text,
)
from fallow.integrity import FORMAT, changed, checksum
from fallow.lock import LOCK
from fallow.run.recipe import Recipe
from fallow.run.stage import Stage
from fallow.run.vanishing import Present

RECIPE = "recipe.yaml"
BEGUN = "begun.json"
FINISHED = "stage.json"
RESULTS = "results.json"
UNMERGED = "unmerged"
LOG = "log.jsonl"
_SIGNED = "# Every setting, written by fallow run; --restart may delete this folder.\n"
"""First line of our recipe files: a folder with a recipe that somebody wrote by hand is not ours to empty."""

_SHARED = ("tokenizer", "data")
_FOLDERS = ("model", UNMERGED)
_NOT_READ = ("README.md", "timing.jsonl", BEGUN, FINISHED)

Identity = Mapping[str, Any]
"""What a stage is made from; see `fallow.run.lineage`."""


class Output:
    """The folder of one run.

    Args:
        folder: made when it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.present = Present(folder)
        """What has to stay in it while the run goes."""

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
            if not ours and self.folder.exists() and not all(map(_is_trace, self.folder.iterdir())):
                found = (
                    "its recipe.yaml was not written by a run" if (self.folder / RECIPE).exists() else f"no {RECIPE}"
                )
                raise UserError(
                    f"{self.folder} holds other files and {found}. Use another --output, or an empty folder."
                )
            if ours:
                self._sweep()
            if ours and restart:
                self._clear()
            elif ours:
                self._refuse_another(recipe)
            write_recipe(self.folder, recipe)
            self.present.note()
        except OSError as error:
            raise UserError(f"{self.folder} cannot be written: {error.strerror}. Use another --output.") from error

    def _sweep(self) -> None:
        """Remove what a killed run left half written or half removed; of checkpoints their own reader tells."""
        sweep(self.folder)
        for own in [path for path in self.folder.iterdir() if path.name in _SHARED or _is_signed(path / RECIPE)]:
            for folder, inner, _ in os.walk(own):
                inner[:] = [name for name in inner if name != "checkpoints" and not is_temporary(name)]
                sweep(Path(folder))

    def _clear(self) -> None:
        """Remove what runs make, and nothing else that somebody may have put beside it.

        Each folder loses its name at once: a killed restart leaves no stage of which a part is gone.
        """
        for path in sorted(self.folder.iterdir()):
            if path.is_dir() and (path.name in _SHARED or _is_stage(path)):
                remove_folder(path)
            elif path.name in (RESULTS, "report.html"):
                path.unlink()

    def _refuse_another(self, recipe: Recipe) -> None:
        other = "Use another --output, or --restart to begin again in an empty folder"
        try:
            there = read_recipe(self.folder).identity()
        except UserError as error:
            raise UserError(
                f"{self.folder} was made by a recipe that cannot be read any more ({str(error).rstrip('.')}). {other}"
            ) from error
        differing = difference(there, recipe.identity())
        if differing:
            shown = [f"{key} is {old} there and {new} here" for key, (old, new) in list(differing.items())[:3]]
            more = f" (and {len(differing) - 3} more)" if len(differing) > 3 else ""
            raise UserError(f"{self.folder} was made by another recipe: {'; '.join(shown)}{more}. {other}")

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

    def begin(self, stage: Stage, folder: Path, identity: Identity) -> None:
        """Make the folder of a stage, with its settings and what it is made from."""
        make_folder(folder)
        write_text(folder / RECIPE, _SIGNED + dump(stage))
        write_sealed(folder / BEGUN, {"format": FORMAT, "identity": dict(identity)})
        self.present.note()

    def begun(self, folder: Path) -> Identity | None:
        """What a stage or trial that is not finished was begun with; None where it was not begun.

        Raises:
            UserError: the record is damaged, or of an older fallow.
        """
        path = folder / BEGUN
        if not path.exists():
            return None
        hint = f"Delete {folder}, and the same command begins the stage again."
        found: Identity = read_sealed(path, hint, form=FORMAT).get("identity", {})
        return found

    def finish(self, folder: Path, record: dict[str, Any]) -> None:
        """Write what a stage measured, once all it hands on is on disk; then drop what only a restart would need.

        The record says what the stage was made from, and has the checksum of each file that is read later.
        """
        self.present.check()
        sync_folder(folder)
        identity = record.get("identity") or self.begun(folder)
        facts = {"format": FORMAT, "identity": identity, "files": _files_of(folder)}
        write_sealed(folder / FINISHED, {**record, **facts})
        self.tidy(folder)
        self.present.note()

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
        hint = f"Delete {folder}, and the same command trains the stage again."
        record = read_sealed(path, hint, form=FORMAT)
        if missing := [key for key in (*needs, "identity", "files") if key not in record]:
            raise UserError(f"{path} is damaged (it has no {missing[0]}). {hint}")
        return record

    def check_files(self, folder: Path, record: Mapping[str, Any], only: Sequence[str] = ()) -> None:
        """Compare the files of a finished stage or trial with the checksums in its record.

        Logs and texts that were deleted are not missed: what has none of them goes without.

        Args:
            folder: of the stage.
            record: that `finished` gave.
            only: names of files; all by default.

        Raises:
            UserError: one was changed, or a file of the model is missing.
        """
        files = {name: known for name, known in record["files"].items() if not only or name in only}
        for name, known in files.items():
            inside = name.partition("/")[0] in _FOLDERS
            if inside or (folder / name).is_file():
                again = f"delete {folder}, and the same command trains the stage again"
                hint = again if inside or not name.endswith(".jsonl") else "delete it to go on without it"
                if problem := changed(folder, {name: known}):
                    raise UserError(f"{problem}. Restore it, or {hint}")

    def curve(self, folder: Path) -> list[dict[str, Any]]:
        """The log of a finished stage; without lines where it was deleted.

        Raises:
            UserError: it was changed.
        """
        path = folder / LOG
        record = self.finished(folder, needs=())
        if record is not None:
            self.check_files(folder, record, [LOG])
        lines: list[dict[str, Any]] = []
        for raw in path.read_bytes().splitlines() if path.exists() else []:
            try:
                lines.append(dict(json.loads(raw)))
            except (ValueError, TypeError):
                raise UserError(
                    f"{path} is damaged (line {len(lines) + 1}). Restore it, or delete it to go on without its curve."
                ) from None
        return lines


def told(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a stage measured, without what guards its record."""
    return {key: value for key, value in record.items() if key not in ("format", "identity", "files")}


def recipe_dict(recipe: Recipe) -> dict[str, Any]:
    """The plain values of a recipe as its results keep them: without the folder, so that equal runs are equal."""
    return {key: value for key, value in to_dict(recipe).items() if key != "output"}


def write_recipe(folder: Path, recipe: Recipe) -> None:
    """Write the resolved recipe into the folder of its run, with a checksum; inherited seeds as inherited."""
    text = write({key: value for key, value in recipe.document().items() if key != "output"})
    write_text(folder / RECIPE, f"{_SIGNED}{_seal(text)}{text}")


def read_recipe(folder: Path) -> Recipe:
    """The recipe in the folder of a run.

    Raises:
        UserError: it is absent, of an older fallow, changed, or has settings that are not known any more.
    """
    path = folder / RECIPE
    try:
        text = path.read_text(encoding="utf-8").removeprefix(_SIGNED)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is damaged ({error})") from None
    seal, _, body = text.partition("\n")
    if not seal.startswith(_SEAL):
        raise UserError(f"{path} is of format 1, but this fallow reads format {FORMAT}")
    if seal + "\n" != _seal(body):
        raise UserError(f"{path} was changed or is damaged: it does not have the checksum that is in it")
    recipe: Recipe = from_dict(Recipe, parse(body, str(path)))
    return recipe


_SEAL = f"# Format {FORMAT}, SHA-256 of what follows: "


def _seal(text: str) -> str:
    return f"{_SEAL}{hashlib.sha256(text.encode()).hexdigest()}\n"


def _files_of(folder: Path) -> dict[str, str]:
    """The checksum of each file of a stage that a later one, a report or a judgement may read."""
    found = [path for path in folder.iterdir() if path.suffix in (".json", ".jsonl", ".safetensors")]
    found += [path for name in _FOLDERS for path in (folder / name).rglob("*")]
    return {
        path.relative_to(folder).as_posix(): checksum(path)
        for path in sorted(found)
        if path.is_file() and path.name not in _NOT_READ and not any(map(is_temporary, path.relative_to(folder).parts))
    }


def _is_trace(path: Path) -> bool:
    """Whether it is what a run leaves that was killed before its recipe was written."""
    return path.name == LOCK or is_temporary(path.name)


def _is_stage(folder: Path) -> bool:
    """Whether a folder is that of a stage, also one that has lost its recipe."""
    if _is_signed(folder / RECIPE):
        return True
    for name in (FINISHED, BEGUN):
        try:
            if "identity" in read_json(folder / name, ""):
                return True
        except UserError:
            continue
    return False


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
