"""One stage: from the model it begins with to a finished Hugging Face folder and what was measured."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fallow.accounting.flops import count_flops
from fallow.accounting.memory import measure_memory
from fallow.clock import TICK
from fallow.conversion import can_merge, filling, merge
from fallow.counting import Counts, count
from fallow.data.proportions import Proportions
from fallow.data.splits import Splits
from fallow.data.tokenizer import tokenizer_fingerprint
from fallow.errors import UserError
from fallow.evaluate.prompts import positions_of
from fallow.files import write_folder, write_sealed
from fallow.folder import save
from fallow.integrity import FORMAT, MODEL_RECORD, digest, listing
from fallow.linear import Chosen
from fallow.methods.base import (
    KeepsUpdate,
    Monitored,
    SelectsSupports,
    TransfersOptimizerState,
    WritesExtraFiles,
    auxiliary_names,
    reparam_layers,
)
from fallow.methods.registry import method_to_dict
from fallow.pruning import Pruned
from fallow.run import moments, sources
from fallow.run.cutting import Reshape, copy_kept, cutter
from fallow.run.heads import head_of
from fallow.run.lineage import Lineage
from fallow.run.looking import batches_of, cost_of_looking, told_cost
from fallow.run.main_first import main_first
from fallow.run.output import UNMERGED, Output
from fallow.run.paths import settle_paths
from fallow.run.recipe import Recipe
from fallow.run.references import proportions_of
from fallow.run.stage import Stage
from fallow.run.vanishing import StillThere
from fallow.supports.file import save_supports
from fallow.train import Loop, Mesh
from fallow.train.callbacks import Callback, Console, JsonLog, MethodLog, Signals, TensorBoard, TimingLog
from fallow.train.distributed import full_state_dict
from fallow.train.fisher import squared_gradients
from fallow.train.tensors import store_weights

SUPPORTS = "supports.safetensors"
"""In the folder of a stage: the supports that it chose from the weights it began with."""

_GRADIENT_BATCHES = 16

Say = Callable[[str], None]
"""Tells the user a line."""


class StoppedBySignal(KeyboardInterrupt):
    """A signal asked to leave; everything is saved, and the same command continues."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What all stages of a run share."""

    recipe: Recipe
    output: Output
    mesh: Mesh
    tokenizer: Any
    lineage: Lineage
    say: Say


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained stage: its model, merged unless that would fill zeros (on the main process alone when there are
    several), and its numbers.
    """

    model: nn.Module | None
    numbers: dict[str, Any]


def train(bench: Bench, stage: Stage, splits: Splits, folder: Path, title: str) -> Trained:
    """Train a stage and write its model; continues where an interrupted attempt stopped.

    Raises:
        StoppedBySignal: SIGTERM or SIGINT came; a checkpoint is written.
    """
    mesh, head = bench.mesh, head_of(bench.recipe.datasets[stage.dataset])
    reshape = cutter(stage, splits, folder, mesh)
    model = _first(bench, stage, splits, folder, reshape)
    _check_positions(model, stage, bench.recipe.datasets[stage.dataset].context)
    context = bench.recipe.datasets[stage.dataset].context
    paths = settle_paths(
        bench.mesh, stage, model, folder, stage.batch.micro * context, bench.say, bench.recipe.precision
    )
    flops, layers = count_flops(model, context), list(reparam_layers(model))
    if stage.activations == "recompute":
        flops = flops.recomputing()
    counts = count(model)
    pruned = _pruned(bench, stage, model, counts)
    numbers: dict[str, Any] = {
        "reduction": flops.reduction,
        "ceiling": flops.ceiling,
        "linear_share": flops.linear_share,
        "counts": asdict(counts),
        "path": paths[0]["path"] if paths else "stock layers",
        "paths": paths,
        **({"pruned": pruned} if pruned else {}),
    }
    if not stage.trains:
        return _untrained(bench, stage, model, folder, {**_UNTRAINED, **numbers}, layers)
    proportions = _proportions(bench, stage, splits, folder)
    mixture = splits.mixture(stage.batch.sequences, rank=mesh.rank, world=mesh.world, proportions=proportions)
    loop = Loop(
        model,
        stage.method,
        mixture,
        stage.loop_settings(bench.recipe.precision),
        mesh,
        folder,
        callbacks=_callbacks(bench, folder, title, head.counts),
        validate=_validation(bench, model, splits, stage, mesh),
        identity=_identity(bench, stage, folder),
        objective=head.objective(stage.label_smoothing),
        start=_start(bench, stage, model),
    )
    looking = cost_of_looking(stage, splits.valid, loop.plan, mixture.tokens_per_batch, flops)
    if line := told_cost(stage, splits.valid, loop.plan, looking):
        bench.say(f"  {line}")
    fitted = loop.fit()
    if not fitted.finished:
        raise StoppedBySignal(f"stage {stage.name} is saved at step {fitted.steps}; the same command continues there.")
    told = stage.method.summary(loop.model) if isinstance(stage.method, Monitored) else {}
    if verdict := told.get("verdict"):
        bench.say(f"  {stage.name}: the gates have {verdict}")
    if moments.is_wanted(bench.recipe, stage) and isinstance(stage.method, TransfersOptimizerState):
        moments.write_moments(loop.model, loop.optimizer, stage.method, folder, is_main=mesh.is_main)
    memory = measure_memory(loop.model, loop.optimizer)
    num_tokens = fitted.steps * mixture.tokens_per_batch
    numbers |= {
        **asdict(fitted),
        "tokens_per_second": fitted.tokens_per_second
        if head.counts == "tokens"
        else num_tokens / max(fitted.seconds, TICK),
        "counts_of_loss": head.counts,
        "tokens_processed": num_tokens,
        "flops": flops.training * num_tokens,
        "flops_dense": flops.training_dense * num_tokens,
        "flops_executed": flops.training_executed * num_tokens,
        "memory": memory.to_dict(),
        "processes": mesh.world,
        "validation_cost": looking,
        **({"method": told} if told else {}),
    }
    if shares := mixture.proportions.state_dict():
        numbers["shares"] = shares
    whole = _whole(bench, stage, loop.model, folder, reshape)
    if whole is not None:
        whole = _write_model(bench, stage, whole, folder, layers)
        left = sum(p.numel() for p in whole.parameters())
        if left != counts.positions and not reparam_layers(whole):
            numbers["parameters_left"] = left
    mesh.barrier()
    return Trained(whole, numbers)


def _start(bench: Bench, stage: Stage, model: nn.Module) -> Callable[[nn.Module, torch.optim.Optimizer], None] | None:
    if not stage.model.moments:
        return None
    own = auxiliary_names(stage.method, model)
    return moments.starter(bench.output.stage(stage.model.stage), own.__contains__)


def _pruned(bench: Bench, stage: Stage, model: nn.Module, counts: Counts) -> dict[str, Any]:
    """What pruning left, by this stage or by one that it goes on from; empty where nothing was pruned."""
    report: Pruned | None = getattr(model, sources.PRUNED, None)
    if report is not None:
        return report.to_dict()
    earlier = bench.output.finished(bench.output.stage(stage.model.stage)) if stage.model.stage else None
    known: dict[str, Any] = (earlier or {"training": {}})["training"].get("pruned") or {}
    return {**known, "trainable": counts.trainable, "nonzero": counts.apart} if known else {}


_UNTRAINED: dict[str, Any] = {
    "steps": 0, "tokens": 0, "seconds": 0.0, "tokens_per_second": 0.0, "tokens_processed": 0, "validation": {},
    "flops": 0, "flops_dense": 0, "flops_executed": 0, "counts_of_loss": "tokens",
}  # fmt: skip
"""What is known of the training of a stage that only prunes."""


def _untrained(
    bench: Bench, stage: Stage, model: nn.Module, folder: Path, numbers: dict[str, Any], layers: list[str]
) -> Trained:
    """A stage that only prunes: its model is finished as it begins."""
    model.to(bench.mesh.device).eval()
    numbers |= {"memory": measure_memory(model).to_dict(), "processes": bench.mesh.world}
    if bench.mesh.is_main:
        model = _write_model(bench, stage, model, folder, layers)
    bench.mesh.barrier()
    return Trained(model if bench.mesh.is_main else None, numbers)


def _first(bench: Bench, stage: Stage, splits: Splits, folder: Path, reshape: Reshape) -> nn.Module:
    """The model that a stage begins with; supports that are chosen from weights are chosen once, by the main process.

    Other processes, and the same stage after an interruption, read them: on another machine rounding could choose
    otherwise.
    """
    if not isinstance(stage.method, SelectsSupports):
        return _initial(bench, stage, folder, reshape)

    def gradients(model: nn.Module, names: Collection[str]) -> Mapping[str, torch.Tensor]:
        bench.say(f"  taking gradients of {_GRADIENT_BATCHES} batches, to choose supports by")
        head, stream = head_of(bench.recipe.datasets[stage.dataset]), splits.mixture(stage.batch.sequences)
        parts = stage.batch.accumulation(1)
        batches = (batch for _ in range(_GRADIENT_BATCHES) for batch in stream.next_batches(parts))
        return squared_gradients(model.to(bench.mesh.device), head.objective(0.0), batches, names)

    with main_first(bench.mesh) as is_main:
        model = _initial(bench, stage, folder, reshape, gradients)
        chosen = {name: la.support for name, la in reparam_layers(model).items() if isinstance(la.terms.sparse, Chosen)}
        if is_main:  # also when it was read from there: a file that was altered without effect is whole again
            save_supports(folder / SUPPORTS, {name: s for name, s in chosen.items() if s is not None})
    return model


def _initial(
    bench: Bench, stage: Stage, folder: Path, reshape: Reshape, gradients: sources.Gradients | None = None
) -> nn.Module:
    earlier = stage.model.stage
    origin = sources.Origin(
        model=bench.output.model(earlier) if earlier else None,
        unmerged=bench.output.unmerged(earlier) if earlier else None,
        supports=folder / SUPPORTS,
        gradients=gradients,
        reshape=reshape,
    )
    return sources.initial_model(stage, origin, bench.tokenizer, head_of(bench.recipe.datasets[stage.dataset]))


def _proportions(bench: Bench, stage: Stage, splits: Splits, folder: Path) -> Proportions | None:
    """How the shares of the data move; the main process finds the reference losses, the others read them."""

    def measure(model: nn.Module) -> dict[str, float]:
        bench.say(f"  measuring reference losses of {', '.join(splits.valid)}")
        validate = _validation(bench, model.to(bench.mesh.device), splits, stage, None)
        assert validate is not None
        return validate()

    def model_of(path: str, name: str) -> nn.Module:
        return sources.reference_model(path, bench.output.model(name) if name else None, bench.tokenizer, stage)

    def record_of(name: str) -> dict[str, Any]:
        return bench.output.finished(bench.output.stage(name)) or {}

    weights = {name: weight for name, _, weight in splits.train}
    with main_first(bench.mesh):
        return proportions_of(
            stage, weights, folder=folder, record_of=record_of, reference_model=model_of, measure=measure
        )


def _check_positions(model: nn.Module, stage: Stage, context: int) -> None:
    """Recipes know the positions of models that they build; those of a folder are known here."""
    positions = positions_of(model)
    if positions and context > positions:
        raise UserError(
            f"stage {stage.name}: datasets.{stage.dataset}.context is {context}, but the model has {positions} "
            f"positions. Write at most {positions}"
        )


def _callbacks(bench: Bench, folder: Path, title: str, counts: str) -> list[Callback]:
    callbacks = [
        Signals(),
        JsonLog(folder / "log.jsonl"),
        MethodLog(folder / "method.jsonl"),
        TimingLog(folder / "timing.jsonl"),
        Console(title, counts=counts),
    ]
    if "tensorboard" in bench.recipe.trackers:
        callbacks.append(TensorBoard(folder / "tensorboard"))
    return [*callbacks, StillThere(bench.output.present)]


def _identity(bench: Bench, stage: Stage, folder: Path) -> dict[str, Any]:
    """What a checkpoint must agree with: the settings, to name a difference, and all that the stage is made from."""
    whole = bench.recipe.identity()
    position = [s.name for s in bench.recipe.stages].index(stage.name)
    settings = {key: value for key, value in whole.items() if key != "stages"}
    return {**settings, "stage": whole["stages"][position], "made_from": digest(bench.output.begun(folder))}


def _validation(
    bench: Bench, model: nn.Module, splits: Splits, stage: Stage, mesh: Mesh | None
) -> Callable[[], dict[str, float]] | None:
    """What is measured on the held-out sets while training."""
    if not splits.valid:
        return None
    head = head_of(bench.recipe.datasets[stage.dataset])
    return lambda: head.validate(
        model,
        splits.valid,
        batch_size=stage.batch.micro,
        max_batches=batches_of(stage),
        mesh=mesh,
    )


def _whole(bench: Bench, stage: Stage, model: nn.Module, folder: Path, reshape: Reshape) -> nn.Module | None:
    """The model in one piece: itself on one process, gathered into a new one on the main process of several."""
    if bench.mesh.world == 1:
        return model
    weights = full_state_dict(model)
    if not bench.mesh.is_main:
        return None
    whole = _initial(bench, stage, folder, reshape)
    beside = [whole.get_parameter(name) for name in auxiliary_names(stage.method, whole)]
    store_weights(whole, stage.update.weights, beside=beside)
    parameters = {**dict(whole.named_parameters()), **dict(whole.named_buffers())}
    with torch.no_grad():
        for name, tensor in weights.items():
            if name in parameters:
                parameters[name].copy_(tensor)
    return whole


def _write_model(bench: Bench, stage: Stage, model: Any, stage_folder: Path, layers: list[str]) -> nn.Module:
    """Write the finished model and return it: merged unless that would fill zeros, with an update apart beside it."""
    method = method_to_dict(stage.method)
    record = {
        "format": FORMAT,
        "stage": stage.name,
        "identity": digest(bench.output.begun(stage_folder)),
        "recipe": bench.recipe.name,
        "method": method,
        "revive": method.get("revive", "zeros"),
        "seed": stage.seed,
        "targets": list(stage.targets),
        "layers": layers,
        "tokenizer": tokenizer_fingerprint(bench.tokenizer),
    }
    with write_folder(stage_folder / "model") as folder:
        copy_kept(stage_folder, folder)
        if isinstance(stage.method, WritesExtraFiles):
            stage.method.write_extra_files(model, folder)
        if filling(model).zeros or not can_merge(model):
            save(model, folder)
        else:
            if isinstance(stage.method, KeepsUpdate):
                with write_folder(stage_folder / UNMERGED) as apart:
                    save(model, apart)
                    write_sealed(apart / MODEL_RECORD, {**record, "files": listing(apart)})
            model = merge(model)
            model.save_pretrained(folder)
        bench.tokenizer.save_pretrained(folder)
        write_sealed(folder / MODEL_RECORD, {**record, "files": listing(folder)})
    finished: nn.Module = model
    return finished
