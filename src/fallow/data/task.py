"""What is to be told from a text: one of several labels or a value, and how answers are scored."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fallow.errors import UserError, nearest, unknown


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A task of GLUE (Wang et al., 2019).

    >>> TASKS["rte"].labels
    ('entailment', 'not_entailment')
    >>> TASKS["stsb"].is_regression
    True
    """

    name: str
    """As recipes write it."""

    labels: tuple[str, ...] = ()
    """Names of the classes in the order of their numbers, as the Hub's data sets have them. Empty: a value."""

    written: tuple[str, ...] = ()
    """How the published files write them, in the same order."""

    span: tuple[float, float] = (0.0, 0.0)
    """Lowest and highest value."""

    metrics: tuple[str, ...]
    """What GLUE reports, the first one first (`fallow.metrics.classification`). The score of a task is their mean."""

    has_pairs: bool = True
    """Whether two texts are compared."""

    @property
    def is_regression(self) -> bool:
        """Whether a value is asked for."""
        return not self.labels

    @property
    def num_outputs(self) -> int:
        """Numbers that a model gives for a text: one for each class, or the value."""
        return len(self.labels) or 1

    def label(self, text: str, where: str) -> int | float:
        """The number of a class, or the value, from how a file writes it.

        Raises:
            UserError: not of this task; says what is.
        """
        if self.labels:
            if text in self.written:
                return self.written.index(text)
            close = nearest(text, self.written)
            hint = f" Did you mean {close}?" if close else ""
            raise UserError(
                f'{where} has the label "{text}", but {self.name} knows only {", ".join(self.written)}.{hint}'
            )
        low, high = self.span
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise UserError(f'{where} has the value "{text}", but {self.name} has values from {low:g} to {high:g}.')
        return value

    def order_in(self, model_config: Any, source: object) -> tuple[int, ...]:
        """For each class of the task, which output of a model is it.

        A model that was trained elsewhere may number the classes otherwise; names in its configuration decide. Where it
        has none (LABEL_0, LABEL_1, ...) the numbers are taken as they are.

        Raises:
            UserError: the model answers another question.
        """
        outputs = int(model_config.num_labels)
        if outputs != self.num_outputs:
            raise UserError(
                f"{source} gives {outputs} numbers for a text, but {self.name} needs {self.num_outputs}: it was "
                "trained for another task"
            )
        names = [str(model_config.id2label[i]).lower() for i in range(outputs)]
        ours = [label.lower() for label in self.labels]
        if sorted(names) == sorted(ours):
            return tuple(names.index(label) for label in ours)
        if self.labels and not all(name.startswith("label_") for name in names):
            raise UserError(
                f"{source} tells apart {', '.join(names)}, but {self.name} needs {', '.join(ours)}: it was trained for "
                "another task"
            )
        return tuple(range(outputs))


def task_of(name: str) -> Task:
    """The task of this name.

    Raises:
        UserError: there is none.
    """
    if name not in TASKS:
        raise unknown("task", name, TASKS)
    return TASKS[name]


_YES_NO = ("entailment", "not_entailment")

TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        Task(
            name="cola",
            labels=("unacceptable", "acceptable"),
            written=("0", "1"),
            metrics=("matthews",),
            has_pairs=False,
        ),
        Task(name="sst2", labels=("negative", "positive"), written=("0", "1"), metrics=("accuracy",), has_pairs=False),
        Task(name="mrpc", labels=("not_equivalent", "equivalent"), written=("0", "1"), metrics=("f1", "accuracy")),
        Task(name="stsb", span=(0.0, 5.0), metrics=("pearson", "spearman")),
        Task(name="qqp", labels=("not_duplicate", "duplicate"), written=("0", "1"), metrics=("f1", "accuracy")),
        Task(
            name="mnli",
            labels=("entailment", "neutral", "contradiction"),
            written=("entailment", "neutral", "contradiction"),
            metrics=("accuracy",),
        ),
        Task(name="qnli", labels=_YES_NO, written=_YES_NO, metrics=("accuracy",)),
        Task(name="rte", labels=_YES_NO, written=_YES_NO, metrics=("accuracy",)),
    )
}
"""By name."""
