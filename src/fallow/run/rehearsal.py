"""A recipe shortened to one step of each stage, to see whether everything fits together."""

from dataclasses import replace

from fallow.data.files import is_folder_of_shards
from fallow.data.settings import ClassificationData, Data, PairData, TextSource
from fallow.evaluate.preference.settings import Preference
from fallow.run.recipe import Recipe
from fallow.run.stage import Stage
from fallow.train.settings import Checkpointing, Duration, Schedule, Validation

_MEGABYTES = 2.0
_PAIRS = 64


def rehearsal_of(recipe: Recipe, output: str) -> Recipe:
    """The same models, methods and batches, with one step and a little data for each stage.

    Grids are left out: their trials differ in settings that were checked already.
    """
    root = recipe.root
    return replace(
        recipe,
        output=output,
        datasets={name: _little(recipe.dataset(name)) for name in recipe.datasets},
        root="" if root else root,
        stages=tuple(_one_step(stage, recipe.datasets[stage.dataset]) for stage in recipe.stages),
    )


def _one_step(stage: Stage, data: Data) -> Stage:
    evaluate = stage.evaluate
    if isinstance(data, PairData):
        few = replace(evaluate.decoding, max_contexts=2, max_new_tokens=min(8, evaluate.decoding.max_new_tokens))
        evaluate = replace(evaluate, decoding=few, preference=Preference())  # two texts are not worth a judge
    if evaluate.tasks:
        evaluate = replace(evaluate, tasks=replace(evaluate.tasks, limit=2))
    model = stage.model
    if model.cut is not None:
        model = replace(model, cut=replace(model.cut, sequences=min(2, model.cut.sequences)))
    if not stage.trains:
        return replace(stage, model=model, evaluate=evaluate)
    return replace(
        stage,
        model=model,
        budget=Duration(steps=1),
        schedule=Schedule(kind=stage.schedule.kind, final=stage.schedule.final),
        validation=Validation(every=Duration(steps=1 if stage.mixture.rule != "fixed" else 0), max_batches=1),
        checkpoint=Checkpointing(),
        evaluate=evaluate,
        grid={},
    )


def _little(data: Data) -> Data:
    if isinstance(data, PairData):
        return replace(data, max_pairs=_PAIRS)
    if isinstance(data, ClassificationData):
        return replace(data, max_examples=_PAIRS, max_valid=_PAIRS)
    return replace(data, sources=tuple(map(_short, data.sources)), valid=tuple(map(_short, data.valid)))


def _short(source: TextSource) -> TextSource:
    if is_folder_of_shards(source.path) or 0 < source.max_megabytes <= _MEGABYTES:
        return source
    return replace(source, max_megabytes=_MEGABYTES)
