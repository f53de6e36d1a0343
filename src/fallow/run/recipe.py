"""A recipe: everything about a run, in one file."""

import copy
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any, Literal

from fallow.config import Natural, Override, apply_overrides, check_bounds, from_dict, to_dict
from fallow.data.identity import data_paths
from fallow.data.proportions import check_references
from fallow.data.settings import ClassificationData, Data, PairData, TextData, TokenizerSettings
from fallow.errors import UserError, nearest, unknown
from fallow.evaluate.evaluation import Evaluation
from fallow.evaluate.perplexity_settings import PerplexitySettings
from fallow.methods.base import TransfersOptimizerState
from fallow.run.shipped import document_of
from fallow.run.stage import INHERIT, ModelSource, Stage

__all__ = ["ModelSource", "Recipe", "Stage", "load"]

_IDENTITY_LEAVES_OUT = ("description", "notes", "output", "root", "device", "trackers")
_STAGE_IDENTITY_LEAVES_OUT = ("label", "checkpoint", "evaluate")


_MOST_STAGES = 256

_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """A tokenizer, data sets, and stages that are run in order."""

    name: str
    """Name of the run."""

    description: str = ""
    """What it is for, in a sentence or two."""

    notes: tuple[str, ...] = ()
    """Remarks that the report repeats under its table: how rates were chosen, what to keep in mind."""

    seed: Natural = 0
    """Seed of every stage that gives none of its own."""

    output: str = ""
    """Folder of the results. By default runs/<name>."""

    root: str = ""
    """Folder that relative paths of the data sets begin in. Empty: the current one."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto takes a GPU when there is one."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 computes in bfloat16 where that is safe and keeps the weights in float32."""

    trackers: tuple[Literal["tensorboard"], ...] = ()
    """Where to log besides log.jsonl; tensorboard writes to <output>/<stage>/tensorboard, and needs the extra track."""

    tokenizer: TokenizerSettings
    """An existing tokenizer (path), or one to train on the first data set's text (vocab_size)."""

    datasets: dict[str, Data]
    """Data sets by name; stages choose one."""

    stages: tuple[Stage, ...]
    """What is run, in this order."""

    def __post_init__(self) -> None:
        if not re.fullmatch(_NAME, self.name):
            raise UserError(f'name is "{self.name}", but it must hold letters, digits, ., - and _ only.')
        check_bounds(self)
        if not self.output:
            object.__setattr__(self, "output", f"runs/{self.name}")
        if not self.datasets:
            raise UserError("datasets is empty, but the stages need data. Write at least one.")
        for name in self.datasets:
            if not re.fullmatch(_NAME, name):
                raise UserError(f'datasets holds "{name}", but a name must hold letters, digits, ., - and _ only.')
        if not self.stages:
            raise UserError("stages is empty, but a recipe runs at least one.")
        if len(self.stages) > _MOST_STAGES:
            raise UserError(
                f"stages holds {len(self.stages):,} stages, but a recipe runs at most {_MOST_STAGES}. Cut it into "
                "several: a stage can begin with the folder of another recipe's model (model.path)."
            )
        seeded = (replace(s, seed=self.seed) if s.seed == INHERIT else s for s in self.stages)
        object.__setattr__(self, "stages", tuple(seeded))
        for index, stage in enumerate(self.stages):
            self._check(stage, f"stages.{index}", [earlier.name for earlier in self.stages[:index]])

    def _check(self, stage: Stage, place: str, earlier: list[str]) -> None:
        if stage.name in earlier:
            raise UserError(
                f"{place}.name is {stage.name}, but stages.{earlier.index(stage.name)} has that name already."
            )
        if stage.dataset not in self.datasets:
            raise UserError(f"{place}.dataset: {unknown('data set', stage.dataset, self.datasets)}")
        source = stage.model.stage
        if source and source not in earlier:
            raise UserError(f"{place}.model.stage is {source}, but {self._why_not(source, stage.name, earlier)}")
        data = self.datasets[stage.dataset]
        self._check_evaluation(stage, data, f"{place}.evaluate")
        self._check_preference(stage, f"{place}.evaluate.preference", earlier)
        self._check_labels(stage, place, data)
        if stage.validation.every and not _held_out(data):
            what = {"text": "valid_share: 0.05", "pairs": "valid: FILE", "classification": "valid: [FILE]"}[data.kind]
            raise UserError(
                f"{place}.validation.every has no effect: nothing of {stage.dataset} is held out. "
                f"Write datasets.{stage.dataset}.{what}, or remove it."
            )
        self._check_mixture(stage, place, data, earlier)
        if stage.model.moments:
            self._check_moments(stage, place)
        if stage.path == "semi_structured" and self.precision == "fp32":
            raise UserError(
                f"{place}.path is semi_structured, which has no effect in fp32: sparse tensor cores multiply bfloat16. "
                "Write precision: bf16, or path: auto."
            )
        for one in (stage, *(trial for _, trial in stage.trials())) if stage.trains else ():
            try:
                one.loop_settings(self.precision)
            except UserError as error:
                raise UserError(f"{place}.{error}") from None
        positions = self._positions(stage)
        if positions and data.context > positions:
            raise UserError(
                f"datasets.{stage.dataset}.context is {data.context}, but the model of {place} ({stage.name}) has "
                f"{positions} positions. Write at most {positions}, or give the model more."
            )

    def _check_evaluation(self, stage: Stage, data: Data, place: str) -> None:
        """Settings of the other kind of data would do nothing."""
        if isinstance(data, ClassificationData) and stage.evaluate.max_sequences:
            raise UserError(f"{place}.max_sequences has no effect on {stage.dataset}: every text is judged. Remove it.")
        if isinstance(data, ClassificationData) and stage.evaluate.tasks:
            raise UserError(f"{place}.tasks needs a language model, but {stage.dataset} makes a classifier. Remove it.")
        needs = {"decoding": PairData, "profile": PairData, "preference": PairData, "perplexity": TextData}
        for key, kind in needs.items():
            if not isinstance(data, kind) and getattr(stage.evaluate, key) != getattr(Evaluation(), key):
                why = "texts are generated for pairs" if kind is PairData else "only text is cut into windows"
                raise UserError(
                    f"{place}.{key} has no effect on {stage.dataset}, which is {data.kind}; {why}. Remove it."
                )
        try:
            stage.evaluate.perplexity.check_context(data.context)
        except UserError as error:
            raise UserError(f"{place}.perplexity.{error}") from None
        if stage.evaluate.perplexity != PerplexitySettings() and not _held_out(data):
            raise UserError(
                f"{place}.perplexity has no effect: nothing of {stage.dataset} is held out. "
                f"Write datasets.{stage.dataset}.valid_share: 0.05, or remove it."
            )

    def _check_preference(self, stage: Stage, place: str, earlier: list[str]) -> None:
        """Texts can be compared where both models were given the same contexts."""
        asked = stage.evaluate.preference
        if not asked.against or asked.is_file:
            return
        if asked.against not in earlier:
            raise UserError(
                f"{place}.against is {asked.against}, but {self._why_not(asked.against, stage.name, earlier)}"
            )
        other = self.stage(asked.against)
        limits = [one.evaluate.decoding.max_contexts for one in (other, stage)]
        if (other.dataset, limits[0]) != (stage.dataset, limits[1]):
            raise UserError(
                f"{place}.against is {asked.against}, which writes texts for {limits[0] or 'all'} contexts of "
                f"{other.dataset}, but {stage.name} for {limits[1] or 'all'} of {stage.dataset}. Let them be the same."
            )

    def _check_moments(self, stage: Stage, place: str) -> None:
        """Moments are handed on between stages of stock layers and of torch's AdamW."""
        for one in (self.stage(stage.model.stage), stage):
            if not isinstance(one.method, TransfersOptimizerState):
                raise UserError(
                    f"{place}.model.moments needs stock layers, but stage {one.name} trains by method "
                    f"{one.method.name}. Remove it."
                )
            update = one.optimizer
            if update is None or update.name != "adamw" or update.weights != "model":
                raise UserError(
                    f"{place}.model.moments needs optimizer adamw with weights: model in both stages, but stage "
                    f"{one.name} has another one. Remove it."
                )
            if one.grid:
                raise UserError(f"{place}.model.moments has no effect with a grid (stage {one.name}). Remove it.")

    def _check_mixture(self, stage: Stage, place: str, data: Data, earlier: list[str]) -> None:
        """A mixture that follows losses needs domains, a held-out text of each, and looks at it."""
        mixing = stage.mixture
        if mixing.rule == "fixed":
            return
        if not isinstance(data, TextData):
            raise UserError(f"{place}.mixture has no effect on {stage.dataset}, which has no domains. Remove it.")
        for key, name in (("references.stage", mixing.references.stage), ("start", mixing.start)):
            if name and name not in earlier:
                raise UserError(f"{place}.mixture.{key} is {name}, but {self._why_not(name, stage.name, earlier)}")
        if not stage.validation.every:
            raise UserError(
                f"{place}.mixture follows validations, but validation.every is missing. Write every: {{steps: 50}}."
            )
        names = [source.name for source in data.sources]
        held_out = names if data.valid_share else [source.name for source in data.valid]
        for name in names:
            if name not in held_out:
                raise UserError(
                    f"{place}.mixture follows the loss of each domain, but datasets.{stage.dataset} has no held-out "
                    f"text of {name}. Add it to valid with domain: {name}, or write valid_share."
                )
        if mixing.references.losses:
            try:
                check_references(mixing.references.losses, names)
            except UserError as error:
                raise UserError(f"{place}.mixture.references: {error}") from None

    def _check_labels(self, stage: Stage, place: str, data: Data) -> None:
        """Settings that only some labels give a meaning."""
        if stage.validation.by == "score":
            if not isinstance(data, ClassificationData):
                raise UserError(
                    f"{place}.validation.by is score, but {stage.dataset} is {data.kind}, which has a loss alone while "
                    "training. Remove it."
                )
            if stage.validation.keep == "last" and not stage.validation.patience and not stage.grid:
                raise UserError(
                    f"{place}.validation.by has no effect without keep: best, patience or a grid. Add one, or "
                    "remove it."
                )
        if isinstance(data, ClassificationData) and data.task == "stsb" and stage.label_smoothing:
            raise UserError(f"{place}.label_smoothing has no effect on task stsb, whose labels are values. Remove it.")

    def _why_not(self, source: str, name: str, earlier: list[str]) -> str:
        if source == name:
            return "a stage cannot begin with its own result."
        if source in (stage.name for stage in self.stages):
            return "that stage comes later. Put it before this one."
        if not earlier:
            return "no stage comes before this one. Give config or path instead."
        close = nearest(source, earlier)
        return "no earlier stage has that name. " + (
            f"Did you mean {close}?" if close else f"Earlier stages: {', '.join(earlier)}."
        )

    def _positions(self, stage: Stage) -> int:
        """Positions of the model that a stage descends from; 0 where only its files know."""
        while stage.model.stage:
            stage = self.stage(stage.model.stage)
        found = [stage.model.config.get(key) for key in ("n_positions", "max_position_embeddings")]
        return next((int(value) for value in found if isinstance(value, int)), 0)

    def stage(self, name: str) -> Stage:
        """The stage of this name."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise unknown("stage", name, [stage.name for stage in self.stages])

    def lineage(self, names: Iterable[str]) -> list[str]:
        """These stages and all that they begin with, in the order of the recipe; without names, every stage.

        Raises:
            UserError: no stage has that name.
        """
        wanted = list(names)
        if not wanted:
            return [stage.name for stage in self.stages]
        found: set[str] = set()
        while wanted:
            stage = self.stage(wanted.pop())
            found.add(stage.name)
            wanted += [stage.model.stage] if stage.model.stage else []
            wanted += stage.mixture.stages()
        return [stage.name for stage in self.stages if stage.name in found]

    def dataset(self, name: str) -> Data:
        """A data set with its relative paths begun in `root`."""
        data = self.datasets[name]
        at = self._at_root
        if isinstance(data, PairData):
            return replace(data, train=at(data.train), valid=at(data.valid), test=at(data.test))
        if isinstance(data, ClassificationData):
            moved = {role: tuple(map(at, files)) for role, files in data.roles().items()}
            return replace(data, **moved)  # type: ignore[arg-type]
        sources, valid = (tuple(replace(s, path=at(s.path)) for s in group) for group in (data.sources, data.valid))
        return replace(data, sources=sources, valid=valid)

    def _at_root(self, path: str) -> str:
        if not path or not self.root or path.startswith(("embedded:", "hub:")) or PurePath(path).is_absolute():
            return path
        return str(PurePath(self.root) / path)

    def check_files(self) -> None:
        """Refuse a recipe whose data files are not there, before anything is made.

        Raises:
            UserError: names the setting and the file, and how to give another folder.
        """
        for name in self.datasets:
            for key, path in _files(self.dataset(name)):
                if not Path(path).exists():
                    raise UserError(
                        f"datasets.{name}.{key} is {path}, which does not exist. Write --root FOLDER with the "
                        f"folder that holds the data, or --datasets.{name}.{key} FILE."
                    )

    def document(self) -> dict[str, Any]:
        """The plain values as a file gives them: a seed that a stage has from the recipe is written as inherited.

        So another seed of the recipe changes all stages that had the old one, also in a file that fallow wrote.
        """
        plain: dict[str, Any] = to_dict(self)
        for stage in plain["stages"]:
            stage["seed"] = INHERIT if stage["seed"] == self.seed else stage["seed"]
        return plain

    def identity(self) -> dict[str, Any]:
        """The plain values that decide the weights: no output folder, labels, times of saving, or ways of judging.

        Two recipes of equal identity may continue each other's runs.
        """
        plain = copy.deepcopy(to_dict(self))
        for key in _IDENTITY_LEAVES_OUT:
            del plain[key]
        for stage in plain["stages"]:
            for key in _STAGE_IDENTITY_LEAVES_OUT:
                del stage[key]
        return plain


def _files(data: Data) -> list[tuple[str, str]]:
    return [(key, path) for key, path in data_paths(data) if not path.startswith(("embedded:", "hub:"))]


def settings_of(recipe: Recipe, stage: Stage) -> dict[str, Any]:
    """The plain values that decide the weights of a stage or trial, those of its data and tokenizer included.

    Of local paths only the last name counts: what lies there is known by its content.
    """
    plain, data = to_dict(stage), recipe.datasets[stage.dataset]
    own = {key: value for key, value in plain.items() if key not in _STAGE_IDENTITY_LEAVES_OUT}
    found = {
        "precision": recipe.precision,
        "tokenizer": to_dict(recipe.tokenizer),
        "dataset": to_dict(data),
        "stage": own,
    }
    places = ["tokenizer.path", "stage.model.path", "stage.mixture.references.path", "stage.mixture.references.file"]
    for key in [*places, *(f"dataset.{key}" for key, path in data_paths(data) if not path.startswith("embedded:"))]:
        *parents, last = key.split(".")
        holder: Any = found
        for parent in parents:
            holder = holder[int(parent)] if isinstance(holder, list) else holder[parent]
        at: Any = int(last) if isinstance(holder, list) else last
        if not holder[at].startswith(("embedded:", "hub:")):
            holder[at] = PurePath(holder[at]).name
    return found


def _held_out(data: Data) -> bool:
    if isinstance(data, PairData):
        return bool(data.valid) or data.format == "embedded"
    if isinstance(data, ClassificationData):
        return bool(data.valid or data.mismatched)
    return bool(data.valid or data.valid_share)


def load(source: str | Path, overrides: Iterable[Override] = ()) -> Recipe:
    """A recipe from a YAML file or a shipped name.

    Args:
        source: path of a YAML file, or the name of a shipped recipe.
        overrides: pairs of a dotted key and a value (`Words`, or plain), as `parse_flags` gives.

    Raises:
        UserError: the file or a setting in it is wrong; the message names the key and what to write.
    """
    overrides = list(overrides)
    recipe = from_dict(Recipe, apply_overrides(document_of(source), overrides))
    if any(key == "seed" for key, _ in overrides) and all(stage.seed != recipe.seed for stage in recipe.stages):
        raise UserError(
            f"seed is {recipe.seed}, which has no effect: every stage has a seed of its own. Write "
            f"--stages.all.seed {recipe.seed}"
        )
    return recipe
