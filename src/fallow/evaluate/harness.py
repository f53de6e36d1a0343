"""Benchmark tasks through lm-eval (the Language Model Evaluation Harness)."""

import contextlib
import logging
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fallow.errors import UserError, first_line, nearest
from fallow.evaluate.modes import evaluating
from fallow.evaluate.tasks import AS_WRITTEN, Asked, Tasks

_NAMED = re.compile(r"^(?:task|group): *[\"']?([\w.-]+)[\"']? *$", re.MULTILINE)
_SEED = 1234  # lm-eval's own for the choice of examples


def require_tasks(settings: Tasks) -> None:
    """Refuse at once what could not be asked in the end. Nothing is loaded and no network is used.

    Raises:
        UserError: lm-eval is not installed, or there is no such task.
    """
    _Index(settings)


def evaluate_tasks(model: Any, tokenizer: Any, settings: Tasks, *, batch_size: int = 8) -> dict[str, Any]:
    """Ask a model the questions of benchmark tasks, scored by lm-eval.

    Choices are compared by the log-probability of their text after the question, generated answers by the task's own
    rules. Which examples come before a question depends on lm-eval's fixed seed alone.

    Args:
        model: a causal language model, stock or converted; a merged one is faster.
        tokenizer: its tokenizer.
        settings: which tasks, and with how many shots.
        batch_size: questions in a forward pass.

    Returns:
        `asked`, the names in order; `tasks`: for each task and group its `shots`, `num` (questions), `metrics`,
        `stderr` (of those that have one), and the `metric` that counts, with its `value`; `harness` with its version;
        `average` of the values when a whole preset was asked; `limit` and `preset` when they were given.

    Raises:
        UserError: lm-eval is not installed, no such task, or its data are neither here nor to be had.
    """
    index = _Index(settings)
    from lm_eval import evaluator
    from lm_eval.models.huggingface import HFLM

    with _quiet(), _own_generators(), evaluating(model):
        found = [index.load(asked) for asked in settings.asked()]
        language_model = HFLM(pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=batch_size)
        raw = evaluator.simple_evaluate(
            model=language_model,
            tasks=found,
            task_manager=index.manager,
            limit=settings.limit or None,
            bootstrap_iters=100,
            log_samples=False,
            random_seed=_SEED,
        )
    assert raw is not None  # this is the main process
    asked = {one.name: one for one in settings.asked()}
    tasks = {name: _task(name, raw, asked.get(name)) for name in raw["results"]}
    result: dict[str, Any] = {"asked": list(asked), "tasks": tasks, "harness": f"lm-eval {index.version}"}
    if settings.preset:
        result["preset"] = settings.preset
        if not settings.names:
            result["average"] = sum(tasks[name]["value"] for name in asked) / len(asked)
    if settings.limit:
        result["limit"] = settings.limit
    return result


def _task(name: str, raw: Mapping[str, Any], asked: Asked | None) -> dict[str, Any]:
    """One entry of the results: lm-eval's keys are `metric,filter` and `metric_stderr,filter`."""
    metrics: dict[str, float] = {}
    errors: dict[str, float] = {}
    for key, value in raw["results"][name].items():
        metric, comma, filtered = key.partition(",")
        if not comma or not isinstance(value, int | float):
            continue
        label = metric if filtered == "none" else f"{metric}/{filtered}"
        if metric.endswith("_stderr"):
            errors[label.replace("_stderr", "", 1)] = float(value)
        else:
            metrics[label] = float(value)
    wanted = asked.metric if asked is not None else ""
    counted = next(
        (label for label in metrics if wanted and label.partition("/")[0] == wanted), next(iter(metrics), "")
    )
    samples = raw.get("n-samples", {}).get(name, {})
    members = raw.get("group_subtasks", {}).get(name, [])
    shots = raw.get("n-shot", {})
    return {
        "shots": shots.get(name, next((shots[member] for member in members if member in shots), 0)),
        "num": samples.get("effective", sum(_num(raw, member) for member in members)),
        "metrics": metrics,
        "stderr": errors,
        "metric": counted,
        "value": metrics.get(counted, float("nan")),
    }


def _num(raw: Mapping[str, Any], name: str) -> int:
    """Questions of a task, or of all tasks below a group."""
    if name in raw.get("n-samples", {}):
        return int(raw["n-samples"][name]["effective"])
    return sum(_num(raw, member) for member in raw.get("group_subtasks", {}).get(name, []))


@dataclass(init=False, slots=True)
class _Index:
    """The tasks that are asked for, found without parsing the thousands of files of lm-eval."""

    manager: Any
    version: str
    _path: str

    def __init__(self, settings: Tasks) -> None:
        try:
            import lm_eval
            from lm_eval.tasks import TaskManager
        except ModuleNotFoundError as error:
            raise UserError(f'tasks need the package {error.name}. Install it: pip install "fallow[eval]"') from error
        from importlib.metadata import version

        self.version, self._path = version("lm_eval"), settings.path
        folders: list[str] = []
        if settings.path:
            if not Path(settings.path).is_dir():
                raise UserError(f"tasks.path is {settings.path}, which is not a folder. Name one that holds YAML files")
            folders = [str(Path(settings.path).resolve())]  # names of files inside are looked for from there
        self.manager = TaskManager(include_path=folders, include_defaults=False)
        missing = [one.name for one in settings.asked() if one.name not in self.manager.all_tasks]
        if missing:
            built_in = Path(lm_eval.__file__).parent / "tasks"
            homes = _homes(built_in, missing, self.manager.all_tasks, settings.path)
            self.manager = TaskManager(include_path=[*homes, *folders], include_defaults=False)
        if any(one.name not in self.manager.all_tasks for one in settings.asked()):  # tags, and what files include
            self.manager = TaskManager(include_path=folders, include_defaults=True)

    def load(self, asked: Asked) -> Any:
        """The task (or group) with its data and its number of shots."""
        try:
            loaded = self._load(asked.name)
        except Exception as error:  # datasets and the hub raise many kinds
            first = first_line(error)
            raise UserError(
                f"task {asked.name} cannot be loaded: {first}. Its data must be in the cache of the datasets library, "
                "on a reachable Hub, or in files that a task of tasks.path names"
            ) from error
        for task in loaded["tasks"].values():
            # A task that says 0 cannot have examples before its questions; lm-eval leaves it, too.
            if asked.shots != AS_WRITTEN and task.get_config("num_fewshot") != 0:
                task.set_config(key="num_fewshot", value=asked.shots)
        group = loaded.get("groups", {}).get(asked.name)
        return group if group is not None else next(iter(loaded["tasks"].values()))

    def _load(self, name: str) -> Any:
        """Files that a task names are looked for beside it first, then from the current folder."""
        if not self._path:
            return self.manager.load([name])
        try:
            with contextlib.chdir(self._path):
                return self.manager.load([name])
        except FileNotFoundError:
            return self.manager.load([name])


def _homes(built_in: Path, names: Sequence[str], local: Sequence[str], path: str) -> list[str]:
    """Folders of lm-eval that hold these tasks or groups, by the text of their files.

    Raises:
        UserError: there is no such task; names the nearest one.
    """
    homes: dict[str, str] = {}
    for file in built_in.rglob("*.yaml"):
        for name in _NAMED.findall(file.read_text(encoding="utf-8", errors="replace")):
            homes.setdefault(name, str(file.parent))
    for name in names:
        if name not in homes:
            close = nearest(name, [*local, *homes])
            where = f" in {path} or among the tasks of lm-eval" if path else " among the tasks of lm-eval"
            hint = f"Did you mean {close}?" if close else "lm-eval ls tasks lists those of lm-eval."
            raise UserError(f"there is no task {name}{where}. {hint}")
    return list(dict.fromkeys(homes[name] for name in names))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without lm-eval's remarks on what fallow does on purpose; its progress bars stay."""
    logger = logging.getLogger("lm_eval")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextlib.contextmanager
def _own_generators() -> Iterator[None]:
    """lm-eval seeds the generators of the whole process; a stage that follows must not depend on that."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
