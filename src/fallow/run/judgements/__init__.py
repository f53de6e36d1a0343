"""The kinds of judgement on a finished stage, one file each. A new kind is one more function in the list."""

from collections.abc import Callable
from typing import Any

from fallow.run.finished import Finished
from fallow.run.judgements.benchmarks import benchmark_tasks
from fallow.run.judgements.labels import labelled_texts
from fallow.run.judgements.loss import held_out_loss
from fallow.run.judgements.preferences import preferred_texts
from fallow.run.judgements.texts import generated_texts

Judgement = Callable[[Finished], dict[str, Any]]
"""What it measured, by name; nothing where it does not apply. The names are those of `scores` in stage.json."""

JUDGEMENTS: tuple[Judgement, ...] = (
    held_out_loss,
    generated_texts,
    preferred_texts,
    labelled_texts,
    benchmark_tasks,
)
