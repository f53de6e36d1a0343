"""The training loop. b: sequences of a micro-batch, t: positions."""

import contextlib
import errno
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from fallow.clock import since
from fallow.errors import UserError
from fallow.methods.base import Monitored
from fallow.train import gradients, nonfinite, rng
from fallow.train.callbacks.base import Callback
from fallow.train.checkpoint import Checkpoints, reading_state
from fallow.train.distributed import Mesh, reshard, shard
from fallow.train.objective import NextToken, Objective
from fallow.train.optimizers.build import build_optimizer
from fallow.train.optimizers.groups import Rates
from fallow.train.plan import Plan, Stream
from fallow.train.recompute import recompute_activations
from fallow.train.records import FitResult, StepRecord, Stopped
from fallow.train.settings import LoopSettings
from fallow.train.tensors import make_room, model_tensors, optimizer_tensors, settle, store_weights
from fallow.train.updates import updates_of
from fallow.train.validation import BestWeights, ValidationState


class TrainingMethod(Rates, Protocol):
    """What the loop asks a method."""

    def before_step(self, model: nn.Module, step: int) -> None:
        """Called before update number `step`, from 1, once all gradients are there."""
        ...

    def lr_factor(self, step: int) -> float:
        """Factor on the schedule's rate for the update after `step` ones."""
        ...

    def after_step(self, model: nn.Module, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Called after update number `step`, from 1, before the gradients are freed; may change what is remembered."""
        ...


class Loop:
    """Trains a model until its budget is used up, patience ends or a signal comes; continues where it stopped.

    A run that was broken off at any moment and started again ends with the same weights and the same log as one that
    was not, bit by bit, with the same number of processes and threads; with another number, up to rounding.

    Args:
        model: gives `.logits`, as the objective asks. Sharded in place when there are several
            processes, which must all have built the same weights.
        method: says how fast each parameter learns, what decays, and what happens after a step.
        mixture: gives each process its share of each global batch.
        settings: see `LoopSettings`.
        mesh: the processes.
        folder: gets `checkpoints/` and, while training, `best/`.
        callbacks: called in this order at each moment.
        validate: measures held-out data on all processes together; must give `loss`, and `score` where that decides.
            Called with the model in evaluation mode and without gradients.
        identity: what makes this run this run (its resolved recipe). A checkpoint of another one is refused.
        objective: (model, batch) -> loss summed over the batch's labels; next-token prediction by default.
        start: called before the first step of a run that no checkpoint continues, with the sharded model and its new
            optimizer: fills what it remembers.

    Raises:
        UserError: settings that do not fit the data, the number of processes or each other.
    """

    def __init__(
        self,
        model: nn.Module,
        method: TrainingMethod,
        mixture: Stream,
        settings: LoopSettings,
        mesh: Mesh,
        folder: Path,
        callbacks: Sequence[Callback] = (),
        validate: Callable[[], dict[str, float]] | None = None,
        identity: dict[str, Any] | None = None,
        objective: Objective | None = None,
        start: Callable[[nn.Module, torch.optim.Optimizer], None] | None = None,
    ) -> None:
        if validate is None and (settings.validation.keep == "best" or settings.validation.patience):
            raise UserError("validation.keep: best and validation.patience need held-out data. Name some.")
        self.plan = Plan.of(settings, mixture, mesh.world)
        self.beside = [
            model.get_parameter(name)
            for name, override in method.param_overrides(model).items()
            if override.is_auxiliary
        ]
        store_weights(model, settings.optimizer.weights, beside=self.beside)
        if settings.activations == "recompute":
            recompute_activations(model)
        self.model = shard(model, mesh, settings.precision, whole=self.beside)
        self.method, self.mixture, self.settings, self.mesh, self.folder = method, mixture, settings, mesh, Path(folder)
        self.callbacks, self.validate = tuple(callbacks), validate
        self.start = start
        self.identity = json.loads(json.dumps(identity or {}))  # as a checkpoint will give it back
        self.objective = objective or NextToken(settings.label_smoothing)
        self.optimizer = build_optimizer(model, method, settings.optimizer, seed=settings.seed)
        self.updates = updates_of(model, self.optimizer, settings.optimizer, mesh, self.beside)
        self.checkpoints = Checkpoints(self.folder / "checkpoints", mesh, settings.checkpoint.keep)
        self.best_weights = BestWeights(self.folder / "best", mesh)
        self.validation = ValidationState()
        self.num_steps_done, self.tokens, self.seconds, self.loss = 0, 0, 0.0, math.nan
        self.last_saved = -1
        self.stop_requested = self.stop_agreed = self.method_done = False

    def fit(self) -> FitResult:
        """Train to the end, from the newest checkpoint if there is one.

        Returns:
            How it ended; at once, with the final weights in the model, if it had ended before.

        Raises:
            NonFiniteError: a loss or gradient is not a number; no parameter was updated with it. With updates per layer
                others may have been before it was seen: the last checkpoint is whole.
            UserError: a checkpoint belongs to another run, or cannot be written.
        """
        if (ended := self.resume()) is not None:
            return ended
        self.model.train()
        try:
            self.tell("on_start")
            if self.settings.validation.first and self.num_steps_done == 0:
                self.run_validation()
            while not self.is_done and not self.is_stopped:
                self.tell("on_step", self.step())
                if self.is_due(self.plan.validate_every):
                    self.run_validation()
                if self.is_due(self.plan.save_every) and not self.is_done:
                    self.save()
            result = self.finish() if self.is_done else self.leave()
            self.tell("on_stop", result)
        except BaseException as error:
            self.tell("on_error", error)
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise UserError(
                    f"the disk is full ({error.filename or self.folder}). Make room and run the same command."
                ) from error
            raise
        finally:
            self.updates.close()
        return result

    def step(self) -> StepRecord:
        """One update over all micro-batches of all processes; returns what was seen.

        The loss is summed over valid tokens and divided by their number over all micro-batches and processes, so that
        the update does not depend on how the global batch was cut. Processes talk twice: to count the tokens, and to
        add up loss, squared norm and the wish to stop.
        """
        started = time.perf_counter()
        batches = self.mixture.next_batches(self.plan.accumulation)
        num_tokens = int(self.mesh.sum(sum(batch.num_valid for batch in batches)))
        self.refuse_empty(num_tokens, batches)

        rate = self.rate()
        self.updates.begin(rate)
        losses = [self.backward(batch, num_tokens, last=batch is batches[-1]) for batch in batches]
        loss, norm = self.agree(losses, self.updates.norm())
        if not (math.isfinite(loss) and math.isfinite(norm)):  # on all processes at once
            seen = nonfinite.Seen(loss, norm, [float(x) for x in losses], batches, self.updates.num_changed())
            nonfinite.refuse(self.num_steps_done + 1, seen, self.mesh)

        gradients.average_(self.beside, self.mesh)
        self.method.before_step(self.model, self.num_steps_done + 1)
        self.updates.finish(norm)
        self.num_steps_done += 1
        self.tokens += num_tokens
        self.loss = loss
        self.method.after_step(self.model, self.num_steps_done, self.optimizer)
        self.optimizer.zero_grad(set_to_none=True)
        self.method_done = self._method_should_stop()

        seconds = since(started)
        self.seconds += seconds
        return StepRecord(
            step=self.num_steps_done,
            tokens=self.tokens,
            num_tokens=num_tokens,
            loss=loss,
            norm=norm,
            lr=rate,
            seconds=seconds,
        )

    def backward(self, batch: Any, num_tokens: int, *, last: bool) -> torch.Tensor:
        """Add the gradients of one micro-batch; returns its part of the loss, a scalar on the device."""
        batch = batch.to(self.mesh.device)
        if self.mesh.world > 1 and self.settings.batch.reduce == "update":
            self.model.set_requires_gradient_sync(last)  # type: ignore[operator]
        with self.autocast():
            loss: torch.Tensor = self.objective(self.model, batch) / num_tokens
        self.updates.see(loss, last=last)
        # FSDP2 averages gradients over processes; ours are parts of a sum.
        torch.autograd.backward(loss * self.mesh.world if self.mesh.world > 1 else loss)
        return loss.detach()

    def agree(self, losses: Sequence[torch.Tensor], norm: torch.Tensor) -> tuple[float, float]:
        """The global loss and the global norm of the gradients; on the way, whether anyone asked to stop."""
        own_loss, own_norm = torch.stack([torch.stack(list(losses)).sum(), norm]).tolist()
        loss, squares, stops = self.mesh.sums([own_loss, own_norm * own_norm, float(self.stop_requested)])
        self.stop_agreed = stops > 0
        return loss, math.sqrt(squares) if self.mesh.world > 1 else own_norm

    def rate(self) -> float:
        """The rate of the next update, before a parameter's own multiplier."""
        begun, plan = self.plan.num_before + self.num_steps_done, self.plan
        factor = self.settings.schedule.factor(begun, plan.num_curve, plan.num_warmup)
        return self.settings.optimizer.lr * factor * self.method.lr_factor(self.num_steps_done)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """bfloat16 where it is safe, or nothing."""
        if self.settings.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.mesh.device.type, dtype=torch.bfloat16)

    def request_stop(self) -> None:
        """Ask to leave after a step, with a checkpoint; safe in a signal handler, and enough on one process."""
        self.stop_requested = True

    @property
    def is_stopped(self) -> bool:
        """Whether all processes know that one of them was asked to stop; alone, there is nobody to tell."""
        return self.stop_agreed or (self.stop_requested and self.mesh.world == 1)

    @property
    def stopped_early(self) -> bool:
        """Whether patience is used up, or the method has come to its end."""
        return self.method_done or self.validation.is_enough(self.settings.validation)

    def _method_should_stop(self) -> bool:
        return isinstance(self.method, Monitored) and self.method.should_stop(self.model, self.num_steps_done)

    @property
    def is_done(self) -> bool:
        """Whether there is nothing left to train."""
        return self.num_steps_done >= self.plan.num_steps or self.stopped_early

    def is_due(self, every: int) -> bool:
        """Whether something that happens every so many steps happens now."""
        return every > 0 and self.num_steps_done % every == 0

    def run_validation(self) -> None:
        """Measure held-out data, and keep the weights if they are the best so far and the best are wanted."""
        if self.validate is None or self.validation.last_step == self.num_steps_done:
            return
        self.model.eval()
        with torch.no_grad(), self.autocast():
            measured = self.validate()
        reshard(self.model)
        self.model.train()
        metrics = self.mesh.broadcast_object({name: float(value) for name, value in measured.items()})
        metrics |= self.mixture.observe(metrics)
        is_best = self.validation.add(self.num_steps_done, metrics, self.settings.validation)
        if is_best and self.settings.validation.keep == "best":
            self.best_weights.save(self.num_steps_done, model_tensors(self.model))
        self.tell("on_validate", metrics)

    def finish(self) -> FitResult:
        """Validate a last time, go back to the best weights if they are wanted, and save the end."""
        self.run_validation()
        best = self.settings.validation.keep == "best" and self.validation.best_step >= 0
        if best and self.validation.best_step != self.num_steps_done:
            self.best_weights.read(self.validation.best_step, model_tensors(self.model))
        result = self.result("early" if self.stopped_early else "budget", best=best)
        self.save(result)
        self.best_weights.keep_only(set())
        return result

    def leave(self) -> FitResult:
        """Save where a signal found us."""
        if self.last_saved != self.num_steps_done:
            self.save()
        return self.result("signal", best=False)

    def result(self, stopped: Stopped, *, best: bool) -> FitResult:
        """The run so far."""
        return FitResult(
            steps=self.num_steps_done,
            tokens=self.tokens,
            seconds=self.seconds,
            tokens_per_second=self.tokens / self.seconds if self.seconds else 0.0,
            stopped=stopped,
            loss=self.loss,
            validation=dict(self.validation.best if best else self.validation.last),
            best_step=self.validation.best_step,
        )

    def save(self, result: FitResult | None = None) -> None:
        """Write a checkpoint; with a result, the last one."""
        tensors = model_tensors(self.model) | optimizer_tensors(self.model, self.optimizer)
        path = self.checkpoints.save(self.num_steps_done, tensors, self.state_dict(result))
        self.last_saved = self.num_steps_done
        self.best_weights.keep_only({state["validation"]["best_step"] for state in self.checkpoints.states()})
        self.tell("on_checkpoint", path)

    def state_dict(self, result: FitResult | None = None) -> dict[str, Any]:
        """All but the tensors, as JSON values."""
        return {
            "step": self.num_steps_done,
            "tokens": self.tokens,
            "seconds": self.seconds,
            "loss": self.loss,
            "mixture": self.mixture.state_dict(),
            "validation": self.validation.state_dict(),
            "callbacks": {type(callback).__name__: callback.state_dict() for callback in self.callbacks},
            "generators": self.mesh.gather(rng.generator_state(self.mesh.device)),
            "result": asdict(result) if result else None,
            "identity": self.identity,
        }

    def resume(self) -> FitResult | None:
        """Go to the newest checkpoint, or to the start; gives the result of a run that has ended."""
        found = self.checkpoints.newest(self.identity)
        if found is None:
            if self.start is not None:
                self.start(self.model, self.optimizer)
            self.resume_others({})
            return None
        path, state = found
        make_room(self.model, self.optimizer, self.checkpoints.describe(path))
        tensors = model_tensors(self.model) | optimizer_tensors(self.model, self.optimizer)
        self.checkpoints.read(path, tensors)
        settle(self.optimizer)
        with reading_state(path):
            return self.load_state_dict(state)

    def load_state_dict(self, state: dict[str, Any]) -> FitResult | None:
        """Back to what `state_dict` said; gives the result of a run that has ended."""
        self.num_steps_done, self.tokens = state["step"], state["tokens"]
        self.seconds, self.loss, self.last_saved = state["seconds"], state["loss"], state["step"]
        self.mixture.load_state_dict(state["mixture"])
        self.validation.load_state_dict(state["validation"])
        if state["result"]:
            self.resume_callbacks(state)
            return FitResult(**{field.name: state["result"][field.name] for field in fields(FitResult)})
        self.method_done = self._method_should_stop()
        self.resume_others(state)
        return None

    def resume_others(self, state: dict[str, Any]) -> None:
        """Callbacks and generators; from the start without a state."""
        self.resume_callbacks(state)
        self.resume_generators(state["generators"] if state else [])

    def resume_callbacks(self, state: dict[str, Any]) -> None:
        """What they remember; nothing without a state."""
        saved = state["callbacks"] if state else {}
        for callback in self.callbacks:
            callback.load_state_dict(saved.get(type(callback).__name__, {}))

    def resume_generators(self, saved: list[dict[str, Any]]) -> None:
        """Continue this process's random numbers, or begin its own: processes must not share a dropout mask."""
        if self.mesh.rank < len(saved):
            rng.restore_generators(saved[self.mesh.rank], self.mesh.device)
        else:
            rng.seed_generators(self.settings.seed, self.mesh.rank, self.num_steps_done)

    def refuse_empty(self, num_tokens: int, batches: Sequence[Any]) -> None:
        """A batch without a single label has no gradient."""
        if num_tokens == 0:
            ids = ", ".join(str(name) for batch in batches for name in batch.ids[:4])
            raise UserError(
                f"no token of the batch at step {self.num_steps_done + 1} has a loss (sequences {ids}, ...). "
                "The targets may have been cut off: use a longer data.context or overflow: drop."
            )

    def tell(self, moment: str, *arguments: Any) -> None:
        """Call all callbacks of this process."""
        for callback in self.callbacks:
            if self.mesh.is_main or callback.every_rank:
                getattr(callback, moment)(self, *arguments)
