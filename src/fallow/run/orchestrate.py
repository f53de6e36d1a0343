"""A recipe from the first stage to the report."""

import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from torch import nn

from fallow.config import to_dict
from fallow.data.settings import Data, PairData, TextData
from fallow.data.splits import Splits, open_data, open_tokenizer
from fallow.errors import UserError
from fallow.evaluate.evaluation import Evaluation
from fallow.files import write_sealed, write_text
from fallow.folder import is_unmerged, load
from fallow.hf.card import model_card
from fallow.lock import owned
from fallow.metrics.scores import PLAIN, require_sacrebleu
from fallow.run.finished import Finished
from fallow.run.grid import best_trial
from fallow.run.heads import head_of
from fallow.run.judging import judge
from fallow.run.lineage import Lineage
from fallow.run.main_first import main_first
from fallow.run.output import RESULTS, Output, recipe_dict, told
from fallow.run.pace import Pace, spoken
from fallow.run.preferences import require_others
from fallow.run.recipe import Recipe
from fallow.run.rehearsal import rehearsal_of
from fallow.run.results import collect
from fallow.run.sources import check_stage
from fallow.run.stage import Stage
from fallow.run.training import Bench, train
from fallow.train import Mesh


def run_recipe(
    recipe: Recipe,
    *,
    only: Sequence[str] = (),
    dry_run: bool = False,
    restart: bool = False,
    json: bool = False,
) -> dict[str, Any]:
    """Run every stage that is not finished, and write `results.json` and `report.html`.

    The same call continues an interrupted run where it stopped: a finished stage is skipped, a begun one goes on from
    its newest checkpoint, with the same result as if nothing had happened.

    Args:
        recipe: what to run; `recipe.output` is the folder.
        only: names of stages; these and the stages they begin with are run, the others are left for later. Empty: all.
        dry_run: one step of each stage on a little data, in a temporary folder.
        restart: delete the results of an earlier run of this folder first.
        json: print nothing on standard output.

    Returns:
        What `results.json` holds.

    Raises:
        UserError: the folder belongs to another recipe, or a stage cannot be built.
    """
    chosen = recipe.lineage(only)
    with Mesh.start(recipe.device) as mesh:
        if not dry_run:
            return _run(recipe, chosen, mesh, restart=restart, quiet=json)
        folder = mesh.broadcast_object(tempfile.mkdtemp(prefix="fallow-") if mesh.is_main else "")
        try:
            results = _run(rehearsal_of(recipe, folder), chosen, mesh, restart=False, quiet=True)
            _speaker(mesh)(f"dry run: one step of each of {len(chosen)} stages, and everything fits together")
            return results
        finally:
            mesh.barrier()
            shutil.rmtree(folder, ignore_errors=True)


def _run(recipe: Recipe, chosen: Sequence[str], mesh: Mesh, *, restart: bool, quiet: bool) -> dict[str, Any]:
    from transformers.utils import logging

    logging.disable_progress_bar()  # a bar for every file of a small model says nothing
    started = time.monotonic()
    say = _speaker(mesh)
    check_stages(recipe, chosen, mesh.world)
    judged = [stage for stage in recipe.stages if stage.name in chosen]
    if any(isinstance(recipe.datasets[s.dataset], PairData) and s.evaluate.profile == PLAIN for s in judged):
        require_sacrebleu()
    for stage in judged:
        if stage.evaluate.tasks:
            from fallow.evaluate.harness import require_tasks

            require_tasks(stage.evaluate.tasks)
    output = Output(Path(recipe.output))
    for stage in judged:
        require_others(stage, chosen, output.folder)
    with ExitStack() as held:
        with main_first(mesh) as is_main:
            if is_main:
                held.enter_context(owned(output.folder))
                output.claim(recipe, restart=restart)
            datasets = [recipe.dataset(name) for name in recipe.datasets]
            tokenizer = open_tokenizer(recipe.tokenizer, datasets, output.folder, prepare=is_main)
        bench = Bench(recipe, output, mesh, tokenizer, Lineage(recipe, output, tokenizer), say)
        records = _stages(bench, chosen)
        results = collect(recipe, records, {name: output.curve(output.stage(name)) for name in records})
        if mesh.is_main:
            _report(bench, results, time.monotonic() - started, quiet=quiet)
            output.present.check()
        mesh.barrier()
    return results


def _stages(bench: Bench, chosen: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Make every chosen stage that is not finished; the records of all that then are, in the order of the recipe."""
    recipe, output, mesh, say = bench.recipe, bench.output, bench.mesh, bench.say
    opened: dict[tuple[str, int], Splits] = {}
    for stage in recipe.stages:  # a pair that is too long must not be found after hours either
        if stage.name in chosen and not _as_asked(stage, output.finished(output.stage(stage.name))):
            _open(bench, stage, opened)
    records, pace = {}, Pace()
    for stage in recipe.stages:
        folder = output.stage(stage.name)
        record = output.finished(folder)
        if stage.name not in chosen:
            if record is not None:
                records[stage.name] = record
            continue
        place = f"[{chosen.index(stage.name) + 1}/{len(chosen)}] {stage.name}"
        with main_first(mesh) as is_main:
            if is_main and record is not None:
                bench.lineage.check_finished(stage, folder, record)
        if record is not None and _as_asked(stage, record):
            say(f"{place}: finished before")
        elif record is not None:
            say(f"{place}: trained before, is judged anew: its evaluate section has changed")
            _judged_anew(bench, stage, _open(bench, stage, opened), folder, record)
        else:
            waiting = [s for s in recipe.stages if s.name in chosen and output.finished(output.stage(s.name)) is None]
            left = spoken(pace.left(waiting))
            say(f"{place}: {stage.label}, {stage.method.name}, {stage.budget if stage.trains else 'prunes'}{left}")
            begun = time.monotonic()
            _stage(bench, stage, _open(bench, stage, opened), folder)
            pace.add(stage, time.monotonic() - begun)
        mesh.barrier()
        if mesh.is_main:
            output.tidy(folder)
        # Read again, also when it was just written: what a report is made of must not depend on when it is made.
        records[stage.name] = dict(mesh.broadcast_object(output.finished(folder) if mesh.is_main else None))
    return records


def check_stages(recipe: Recipe, chosen: Sequence[str], world: int = 1) -> None:
    """Refuse stages that cannot be built, before anything is made: none must fail after hours of an earlier one.

    Args:
        recipe: what is to be run.
        chosen: names of the stages that will be.
        world: number of processes.

    Raises:
        UserError: names the stage.
    """
    computed: list[dict[str, Any]] = []
    for stage in recipe.stages:
        _check_processes(stage, world)
        if stage.name in chosen:
            chain = [recipe.stage(name) for name in recipe.lineage([stage.name])]
            check_stage(chain, head_of(recipe.datasets[stage.dataset]), recipe.tokenizer.vocab_size, computed)


def _check_processes(stage: Stage, world: int) -> None:
    try:
        stage.batch.accumulation(world)
        if world > 1 and stage.trains:
            stage.update.check_processes()
    except UserError as error:
        raise UserError(f"stage {stage.name}: {error}") from None


def _stage(bench: Bench, stage: Stage, splits: Splits, folder: Path) -> None:
    """Train and judge one stage; with a grid, every trial, and keep the one of the best validation."""
    with main_first(bench.mesh) as is_main:
        if is_main:
            bench.lineage.begin(stage, folder)
    chosen: dict[str, Any] = {}
    if stage.grid:
        trained, chosen = best_trial(bench, stage, splits, folder)
    else:
        trained = train(bench, stage, splits, folder, stage.name)
    facts = {"stage": stage.name, "training": trained.numbers, "data": splits.report, **chosen}
    _judged(bench, stage, splits, folder, trained.model, facts)


def _as_asked(stage: Stage, record: dict[str, Any] | None) -> bool:
    """Whether a stage is finished, and was judged as the recipe now says. Old records do not say how, or not all."""
    if record is None:
        return False
    return {**to_dict(Evaluation()), **record.get("evaluate", to_dict(stage.evaluate))} == to_dict(stage.evaluate)


def _judged_anew(bench: Bench, stage: Stage, splits: Splits, folder: Path, record: dict[str, Any]) -> None:
    """Nothing is trained: the finished model is loaded, and the stage gets other scores."""
    model = None
    with main_first(bench.mesh) as is_main:
        if is_main:
            bench.lineage.check_data(stage)
            model = load(folder / "model").float().to(bench.mesh.device)
            bench.output.begin(stage, folder, record["identity"])
    _judged(bench, stage, splits, folder, model, record)


def _judged(
    bench: Bench, stage: Stage, splits: Splits, folder: Path, model: nn.Module | None, facts: dict[str, Any]
) -> None:
    """The main process judges, and writes the record of the stage with its scores, and the card of its model."""
    if bench.mesh.is_main and model is not None:
        scores = judge(Finished(model, bench.tokenizer, stage, splits, folder, bench.say))
        apart = is_unmerged(folder / "model")
        record = {**facts, "scores": scores, "evaluate": to_dict(stage.evaluate), "unmerged": apart}
        write_text(folder / "model" / "README.md", model_card(recipe_dict(bench.recipe), to_dict(stage), told(record)))
        bench.output.finish(folder, record)


def _open(bench: Bench, stage: Stage, opened: dict[tuple[str, int], Splits]) -> Splits:
    """The data of a stage; prepared by the main process, then opened by the others."""
    key = (stage.dataset, stage.seed)
    if key not in opened:
        data: Data = bench.recipe.dataset(stage.dataset)
        with main_first(bench.mesh) as is_main:
            if is_main:
                bench.lineage.data(stage.dataset)  # what is read now is what counts, also hours later
            opened[key] = open_data(
                data,
                bench.tokenizer,
                bench.output.data / stage.dataset,
                stage.seed,
                prepare=is_main,
                progress=_data_progress(bench) if is_main else None,
            )
            if is_main:
                bench.say(f"  data: {_described(data, opened[key].report)}")
    return opened[key]


def _described(data: Data, report: dict[str, Any]) -> str:
    parts = []
    for name, facts in report.items():
        if isinstance(data, TextData):
            parts.append(f"{name} {facts['tokens']:,} tokens")
        else:
            lost = "".join(f", {facts[key]:,} {key.replace('_', ' ')}" for key in _LOST if facts.get(key))
            parts.append(f"{name} {facts['kept']:,} {'pairs' if isinstance(data, PairData) else 'texts'}{lost}")
    return "; ".join(parts)


_LOST = ("cut", "dropped", "left_out")


def _data_progress(bench: Bench) -> Any:
    last: dict[str, float] = {}

    def progress(name: str, done: int, total: int) -> None:
        share = done / total if total else 1.0
        if share >= last.get(name, -1.0) + 0.25:
            bench.say(f"  tokenising {name}: {share:.0%}")
            last[name] = share

    return progress


def _report(bench: Bench, results: dict[str, Any], seconds: float, *, quiet: bool) -> None:
    from fallow.report.pages import run_page
    from fallow.report.tables import show_table

    folder = bench.output.folder
    write_sealed(folder / RESULTS, results)
    write_text(folder / "report.html", run_page(results))
    if quiet:
        return
    print()
    show_table(results)
    for note in results["notes"]:
        print(f"- {note}")
    print(f"\n{seconds / 60:.1f} minutes. Results: {folder / RESULTS}\nReport:  {(folder / 'report.html').resolve()}")


def _speaker(mesh: Mesh) -> Any:
    def say(text: str) -> None:
        if mesh.is_main:
            print(text, file=sys.stderr, flush=True)

    return say
