"""How much data a stage will see, found out without reading text: from settings, indices of shards, files of pairs."""

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from fallow.data.files import is_folder_of_shards
from fallow.data.index import INDEX, Index
from fallow.data.settings import ClassificationData, PairData, TextData
from fallow.errors import UserError, unknown
from fallow.run.recipe import Recipe
from fallow.run.stage import Stage

Certainty = Literal["exact", "at most", "unknown"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSize:
    """One pass over a data set; 0 is unknown."""

    sequences: int = 0
    tokens: int = 0
    certainty: Certainty = "unknown"
    source: str = ""
    """Where the numbers come from, or what would give them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Amount:
    """The budget of a stage in steps and tokens; None is unknown."""

    steps: int | None
    tokens: int | None
    certainty: Certainty
    """`at most`: pairs are shorter than the context, or patience may end the stage early."""

    why: str = ""
    """What would have to be known, or why it may be less."""

    trials: int = 1
    """Runs of the stage that its grid asks for; steps and tokens are those of all of them."""

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of a recipe's data sets and budgets.

    Args:
        recipe: what is to be run.
        epoch_tokens: tokens in one pass as the user knows them, by data set; they win over what lies here.

    Raises:
        UserError: `epoch_tokens` names a data set that the recipe does not have.
    """

    recipe: Recipe
    epoch_tokens: Mapping[str, int]
    _known: dict[str, DataSize] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, tokens in self.epoch_tokens.items():
            if name not in self.recipe.datasets:
                raise unknown("data set", name, self.recipe.datasets)
            if tokens < 1:
                raise UserError(f"--epoch-tokens {name}={tokens}, but a pass has at least 1 token")

    def data(self, name: str) -> DataSize:
        """One pass over a data set."""
        if name not in self._known:
            self._known[name] = self._look(name)
        return self._known[name]

    def amount(self, stage: Stage) -> Amount:
        """What a stage will process, over all trials of its grid."""
        trials = [trial for _, trial in stage.trials()] or [stage]
        amounts = [self._one(trial) for trial in trials]
        steps = [one.steps for one in amounts if one.steps is not None]
        tokens = [one.tokens for one in amounts if one.tokens is not None]
        certainty = min((one.certainty for one in amounts), key=_WORST_FIRST.index)
        why = next((one.why for one in amounts if one.why), "")
        if stage.validation.patience and certainty == "exact":
            certainty, why = "at most", "patience may end it earlier"
        return Amount(
            steps=sum(steps) if len(steps) == len(amounts) else None,
            tokens=sum(tokens) if len(tokens) == len(amounts) else None,
            certainty=certainty,
            why=why,
            trials=len(trials),
        )

    def _look(self, name: str) -> DataSize:
        data, given = self.recipe.dataset(name), self.epoch_tokens.get(name, 0)
        if isinstance(data, TextData):
            if given:
                return _text(given // data.context, data.context, "given")
            tokens = _prepared_tokens(self.recipe, name, data)
            if tokens is None:
                return DataSize(source=f"data set {name} is not prepared here; give --epoch-tokens {name}=N")
            return _text(sum((n - 1) // data.context for n in tokens), data.context, "shards")
        sequences = _num_pairs(data) if isinstance(data, PairData) else _num_texts(data)
        if given:
            return DataSize(sequences=sequences, tokens=given, certainty="exact", source="given")
        if not sequences:
            return DataSize(source=f"data set {name} is not here; give --epoch-tokens {name}=N")
        return DataSize(sequences=sequences, tokens=sequences * data.context, certainty="at most", source="files")

    def _one(self, stage: Stage) -> Amount:
        data, budget = self.recipe.datasets[stage.dataset], stage.budget
        is_text = isinstance(data, TextData)
        size = self.data(stage.dataset) if budget.epochs or not is_text else DataSize()
        if budget.epochs and not size.sequences:
            known = round(budget.epochs * size.tokens) if size.tokens else None
            return Amount(
                steps=None, tokens=known, certainty="exact" if known else "unknown", why="" if known else size.source
            )
        is_exact = is_text or (size.certainty == "exact" and size.sequences > 0)
        if budget.tokens and not is_exact:  # shorter texts make more steps, not more tokens
            return Amount(steps=None, tokens=budget.tokens, certainty="exact")
        mean = data.context if is_text or not is_exact else size.tokens / size.sequences
        per_step = max(round(stage.batch.sequences * mean), 1)
        steps = budget.num_steps(per_step, size.sequences / stage.batch.sequences)
        return Amount(
            steps=steps,
            tokens=steps * per_step,
            certainty="exact" if is_exact else "at most",
            why="" if is_exact else "texts are shorter than the context",
        )


_WORST_FIRST: tuple[Certainty, ...] = ("unknown", "at most", "exact")


def _text(sequences: int, context: int, source: str) -> DataSize:
    return DataSize(sequences=sequences, tokens=sequences * context, certainty="exact", source=source)


def _prepared_tokens(recipe: Recipe, name: str, data: TextData) -> list[int] | None:
    """Tokens of each source, or None when one of them is not tokenised yet."""
    found = []
    for source in data.sources:
        beside = Path(recipe.output) / "data" / name / f"{source.name}-train"
        folder = Path(source.path) if is_folder_of_shards(source.path) else beside
        if not (folder / INDEX).is_file():
            return None
        index = Index.read(folder)
        if not index.complete:
            return None
        found.append(index.num_tokens)
    return found


def _num_pairs(data: PairData) -> int:
    """Training pairs in the files; 0 when they are not here (or have to be made first)."""
    if data.format == "embedded" or not Path(data.train).exists():
        return 0
    from fallow.data.formats import read_pairs

    with tempfile.TemporaryDirectory() as cache:
        num = len(read_pairs(data, "train", Path(cache)))
    return min(num, data.max_pairs) if data.max_pairs else num


def _num_texts(data: ClassificationData) -> int:
    """Labelled training texts in the files; 0 when they are not here."""
    if not all(Path(path).exists() for path in data.train):
        return 0
    from fallow.data.formats.glue import read_glue
    from fallow.data.task import task_of

    num = sum(len(read_glue(Path(path), task_of(data.task))[0]) for path in data.train)
    return min(num, data.max_examples) if data.max_examples else num
