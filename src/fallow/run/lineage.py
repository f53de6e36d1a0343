"""What a stage is made from: its settings, its data and tokenizer, and the results of stages that it begins with.

A stage goes on, is skipped as finished, or is begun with only by what its record says. So a result can never stand for
another recipe, another text or another model than the one that made it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fallow.data.identity import data_facts
from fallow.data.tokenizer import tokenizer_facts
from fallow.errors import UserError
from fallow.integrity import checksum, digest, listing
from fallow.run.output import FINISHED, Identity, Output
from fallow.run.recipe import Recipe, settings_of
from fallow.run.stage import Stage

_HANDED_ON = ("model/", "unmerged/", "fallow-moments.safetensors")


@dataclass(frozen=True, slots=True)
class Lineage:
    """What the stages of one run are made from; the main process asks, since files are read for it."""

    recipe: Recipe
    output: Output
    tokenizer: Any
    seen: dict[str, dict[str, str]] = field(default_factory=dict)

    def data(self, name: str) -> dict[str, str]:
        """The checksums of a data set's files, as they are when this is called first: just before they are read."""
        if name not in self.seen:
            self.seen[name] = {f"datasets.{name}.{k}": v for k, v in data_facts(self.recipe.dataset(name)).items()}
        return self.seen[name]

    def of(self, stage: Stage) -> dict[str, Any]:
        """The identity of a stage that is about to be trained.

        Returns:
            `settings` and `tokenizer`: a checksum each; `files`: the checksum of every file that it reads from outside
            of the run, by setting and name; `stages`: by the name of each stage that it begins with, a checksum of
            that one's identity and of what it handed on.
        """
        return {**self._within(stage), "files": dict(self._files(stage))}

    def begin(self, stage: Stage, folder: Path) -> None:
        """Make the folder of a stage or trial, or see that it was begun with the same.

        Args:
            stage: with the settings of the trial.
            folder: of the stage or trial.

        Raises:
            UserError: anything that it is made from has changed since it was begun, or its data since another stage was
                trained on them.
        """
        here = self.of(stage)
        there = self.output.begun(folder)
        if there is not None and (words := _difference(there, here)):
            raise UserError(
                f"{folder} was begun {words}. Restore that, or delete {folder}, and the same command begins it again"
            )
        self.check_data(stage)
        self.output.begin(stage, folder, here)

    def check_finished(self, stage: Stage, folder: Path, record: Mapping[str, Any]) -> None:
        """See that a finished stage or trial is this recipe's, and that its files are those that it wrote.

        What it reads from outside of the run is not compared: nothing of that is used any more.

        Raises:
            UserError: it was made with other settings or another tokenizer, from another result of an earlier stage, or
                a file has changed.
        """
        there = record["identity"]
        here = {**self._within(stage), "files": there.get("files")}
        if words := _difference(there, here):
            raise UserError(
                f"{folder / FINISHED} is of a stage that was made {words}. Delete {folder}, and the same command "
                "trains the stage again"
            )
        self.output.check_files(folder, record)

    def check_data(self, stage: Stage) -> None:
        """See that the data of a stage are those that it and others were trained on, as far as they are finished.

        Raises:
            UserError: names the file that has changed.
        """
        here, prefix = self.data(stage.dataset), f"datasets.{stage.dataset}."
        for name, record in stages_of(self.recipe, self.output).items():
            files = record["identity"].get("files", {})
            there = {file: known for file, known in files.items() if file.startswith(prefix)}
            if there and (file := _first(there, here)):
                raise UserError(
                    f"{file} has changed since stage {name} was trained on it. Restore it, or write --restart to train "
                    "all stages on what it is now"
                )

    def _within(self, stage: Stage) -> dict[str, Any]:
        """What can be told without reading files from outside of the run."""
        earlier = dict.fromkeys([*([stage.model.stage] if stage.model.stage else []), *stage.mixture.stages()])
        return {
            "settings": digest(settings_of(self.recipe, stage)),
            "tokenizer": tokenizer_facts(
                self.tokenizer, self.recipe.tokenizer.path or self.output.folder / "tokenizer"
            ),
            "stages": {name: self._result(name) for name in earlier},
        }

    def _result(self, name: str) -> str:
        record = self.output.finished(self.output.stage(name))
        if record is None:
            return ""
        files = {file: known for file, known in record["files"].items() if file.startswith(_HANDED_ON)}
        return digest([record["identity"], files, record["training"].get("shares"), record["training"].get("pruned")])

    def _files(self, stage: Stage) -> Iterator[tuple[str, str]]:
        yield from self.data(stage.dataset).items()
        references = stage.mixture.references
        if references.file and Path(references.file).is_file():
            yield f"mixture.references.file {Path(references.file).name}", checksum(Path(references.file))
        for key, path in (("model.path", stage.model.path), ("mixture.references.path", references.path)):
            if path and not path.startswith("hub:") and Path(path).is_dir():
                yield from ((f"{key} {name}", known) for name, known in listing(Path(path)).items())


def _difference(there: Identity, here: Identity) -> str:
    """How two identities differ, in words; empty where they agree."""
    if there.get("settings") != here["settings"]:
        return "by other settings"
    if there.get("tokenizer") != here["tokenizer"]:
        return "with another tokenizer"
    if name := _first(there.get("stages", {}), here["stages"]):
        return f"from another result of stage {name}"
    if name := _first(there.get("files", {}), here["files"]):
        return f"with another content of {name}"
    return ""


def _first(there: Mapping[str, str], here: Mapping[str, str]) -> str:
    """The first name whose values differ; empty where all agree."""
    return next((name for name in [*there, *here] if there.get(name) != here.get(name)), "")


def stages_of(recipe: Recipe, output: Output) -> dict[str, dict[str, Any]]:
    """The records of all finished stages, by name, in the order of the recipe."""
    found = ((stage.name, output.finished(output.stage(stage.name))) for stage in recipe.stages)
    return {name: record for name, record in found if record is not None}
