"""Updates per layer are those of all together; bfloat16 weights, bytes and projections in the loop; recomputing."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fallow.errors import UserError
from fallow.methods.registry import method_of
from fallow.train import (
    AdamW8bit,
    BatchSize,
    Callback,
    Checkpointing,
    Duration,
    GaLore,
    GaLore8bit,
    Loop,
    Mesh,
    NonFiniteError,
    Optimizer,
    Schedule,
    Validation,
)
from fallow.train.optimizers.build import build_optimizer
from fallow.train.updates import PerLayer, updates_of
from tests.accounting.live_bytes import LiveBytes
from tests.train.test_loop import Poisoned
from tests.train.tiny import BreakAfter, CrashError, Stream, TinyModel, loop, settings, weights

OPTIMIZERS: dict[str, Any] = {
    "adamw": Optimizer(lr=0.01, clip=0.0),
    "adamw8bit": AdamW8bit(lr=0.01, clip=0.0, block=16),
    "galore": GaLore(lr=0.02, clip=0.0, rank=4, every=3),
    "galore8bit": GaLore8bit(lr=0.02, clip=0.0, rank=4, every=3, block=16),
    "bf16": AdamW8bit(lr=0.01, clip=0.0, block=16, weights="bf16"),
}
STEPS = 5


def made(folder: Path, optimizer: Optimizer, *callbacks: Callback, **changes: Any) -> Loop:
    """A loop in which even tiny parameters have 8-bit moments."""
    seed, objective = changes.pop("seed", 0), changes.pop("objective", None)
    precision = "bf16" if optimizer.weights == "bf16" else "fp32"
    plain = {"optimizer": optimizer, "precision": precision, "validation": Validation(), "checkpoint": Checkpointing()}
    told = settings(STEPS, **plain | changes)
    more = {} if objective is None else {"objective": objective}
    run = loop(folder, told, callbacks=callbacks, seed=seed, validate=None, **more)
    run.optimizer.small = 0  # type: ignore[attr-defined]
    return run


def equal(one: Loop, other: Loop) -> bool:
    return all(torch.equal(value, weights(other)[name]) for name, value in weights(one).items())


def log(folder: Path) -> bytes:
    return (folder / "log.jsonl").read_bytes()


@pytest.mark.parametrize(("name", "micro"), [("adamw", 8), ("adamw", 2), *((name, 4) for name in OPTIMIZERS)])
def test_per_layer_is_together_bit_for_bit(tmp_path: Path, name: str, micro: int) -> None:
    """Weights, and the whole log: losses, norms, and the rate of every step, whatever the accumulation."""
    runs = []
    for update in ("together", "per_layer"):
        told = dataclasses.replace(OPTIMIZERS[name], update=update)
        runs.append(made(tmp_path / update, told, batch=BatchSize(sequences=8, micro=micro)))
        runs[-1].fit()
    assert equal(*runs)
    assert log(tmp_path / "together") == log(tmp_path / "per_layer")
    rates = [json.loads(line)["lr"] for line in log(tmp_path / "per_layer").splitlines()]
    assert rates == pytest.approx(
        [OPTIMIZERS[name].lr * Schedule(warmup=Duration(steps=2)).factor(step, STEPS, 2) for step in range(STEPS)]
    )


@pytest.mark.parametrize(
    ("name", "update"), [*((name, "together") for name in OPTIMIZERS), ("galore8bit", "per_layer")]
)
def test_broken_off_and_continued_is_undisturbed(tmp_path: Path, name: str, update: Any) -> None:
    told, often = dataclasses.replace(OPTIMIZERS[name], update=update), Checkpointing(every=Duration(steps=2))
    calm = made(tmp_path / "calm", told)
    calm.fit()
    with pytest.raises(CrashError):
        made(tmp_path / "broken", told, BreakAfter(3), checkpoint=often).fit()
    again = made(tmp_path / "broken", told, seed=7)
    again.fit()
    assert again.method.steps[0] == 3  # type: ignore[attr-defined]
    assert equal(calm, again)
    assert log(tmp_path / "broken") == log(tmp_path / "calm")
    for p, q in zip(calm.updates.parameters, again.updates.parameters, strict=True):  # type: ignore[attr-defined]
        ours, theirs = calm.optimizer.state[p], again.optimizer.state[q]
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_clipping_by_tensor(tmp_path: Path) -> None:
    """Per layer as together; every gradient at most as long as asked; and torch's clipping of one tensor."""
    runs = []
    for update in ("together", "per_layer"):
        told = Optimizer(lr=0.01, clip=0.05, clip_by="tensor", update=update)  # type: ignore[arg-type]
        runs.append(made(tmp_path / update, told))
        runs[-1].fit()
    assert equal(*runs) and log(tmp_path / "together") == log(tmp_path / "per_layer")
    free = made(tmp_path / "free", Optimizer(lr=0.01, clip=0.0))
    free.fit()
    assert not equal(runs[0], free)
    run = made(tmp_path / "one", Optimizer(lr=0.01, clip=0.05, clip_by="tensor"))
    run.updates.begin(0.0)
    for batch in run.mixture.next_batches(2):
        run.backward(batch, 60, last=True)
    own = [p.grad.clone() for p in run.model.parameters() if p.grad is not None]
    run.updates.finish(float(run.updates.norm()))
    for before, p in zip(own, run.model.parameters(), strict=True):
        alone = nn.Parameter(torch.zeros_like(before))
        alone.grad = before
        torch.nn.utils.clip_grad_norm_([alone], 0.05)
        assert p.grad is not None and alone.grad is not None
        torch.testing.assert_close(p.grad, alone.grad)


@pytest.mark.parametrize("name", ["adamw", "adamw8bit", "galore"])
def test_a_loss_that_is_not_a_number_changes_nothing_per_layer(tmp_path: Path, name: str) -> None:
    told = dataclasses.replace(OPTIMIZERS[name], update="per_layer")
    run = made(tmp_path / "bad", told, objective=Poisoned("s20", "loss"))
    with pytest.raises(NonFiniteError, match="the loss is nan at step 3.*Stopped before the update: the weights are"):
        run.fit()
    first = made(tmp_path / "first", told)
    first.resume(), first.model.train(), first.step(), first.step()
    assert equal(run, first)


@pytest.mark.parametrize("name", ["adamw", "adamw8bit", "galore"])
def test_a_gradient_that_is_not_finite_stops_per_layer(tmp_path: Path, name: str) -> None:
    """What came before it in the backward pass has changed, it and what follows has not, and the message says so."""
    told = dataclasses.replace(OPTIMIZERS[name], update="per_layer")

    def spoil(gradient: torch.Tensor) -> torch.Tensor:
        return gradient * math.inf if run.num_steps_done == 4 else gradient

    run = made(tmp_path, told, checkpoint=Checkpointing(every=Duration(steps=3)))
    spoilt = run.model.blocks[0].linear.weight  # type: ignore[union-attr,index]
    spoilt.register_hook(spoil)
    before: dict[str, torch.Tensor] = {}

    class Keep(Callback):
        def on_step(self, loop: Loop, record: Any) -> None:
            before.update(weights(loop))

    run.callbacks += (Keep(),)
    with pytest.raises(NonFiniteError) as caught:
        run.fit()
    changed = [name for name, value in weights(run).items() if not torch.equal(value, before[name])]
    assert "blocks.1.values" in changed and "blocks.0.linear.weight" not in changed
    assert "blocks.0.norm.weight" not in changed, "its gradient is complete only after the one that was refused"
    assert all(torch.isfinite(value).all() for value in weights(run).values())
    assert f"Updates per layer had changed {len(changed)} parameters" in str(caught.value)
    assert caught.value.step == 5
    calm, again = made(tmp_path / "calm", told), made(tmp_path, told, seed=5)
    calm.fit(), again.fit()
    assert again.method.steps[0] == 4 and equal(calm, again)  # type: ignore[attr-defined]


def test_parameters_that_the_last_micro_batch_does_not_touch(tmp_path: Path) -> None:
    """A gradient of an earlier micro-batch alone (an expert that no token chose) counts all the same."""

    def objective(model: Any, batch: Any) -> torch.Tensor:
        first = int(batch.ids[0][1:]) % 8 == 0
        return (model.blocks[0].values.square().sum() if first else 0) + model.blocks[1].linear.weight.square().sum()

    runs = []
    for update in ("together", "per_layer"):
        told = Optimizer(lr=0.01, clip=0.0, update=update)  # type: ignore[arg-type]
        runs.append(made(tmp_path / update, told, objective=objective))
        runs[-1].fit()
    assert equal(*runs) and log(tmp_path / "together") == log(tmp_path / "per_layer")
    assert not torch.equal(weights(runs[1])["blocks.0.values"], TinyModel().blocks[0].values)


class Deep(nn.Module):
    """Matrices that weigh far more than the activations of a few tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(128, 128, bias=False) for _ in range(12)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = x + block(x)
        return x


@pytest.mark.parametrize(("accumulation", "alive"), [(1, 1), (2, 12)])
def test_gradients_of_one_layer_are_alive(accumulation: int, alive: int) -> None:
    """Bytes that exist at one moment of a step, the optimizer's states aside: 12 gradients together, 1 per layer.

    With several micro-batches gradients are added up, so all of them exist either way.
    """
    peaks, matrix = {}, 128 * 128 * 4
    for update in ("together", "per_layer"):
        torch.manual_seed(0)
        model = Deep()
        told = Optimizer(lr=0.01, clip=0.0, update=update)  # type: ignore[arg-type]
        optimizer = build_optimizer(model, method_of("dense"), told)
        updates = updates_of(model, optimizer, told, Mesh())
        for number in range(2):  # the first step makes the states
            live = LiveBytes()
            with live:
                updates.begin(0.01)
                for micro in range(accumulation):
                    loss = model(torch.ones(2, 128)).square().sum()
                    updates.see(loss, last=micro == accumulation - 1)
                    loss.backward()
                updates.finish(float(updates.norm()))
            assert number or live.peak > 24 * matrix
            optimizer.zero_grad(set_to_none=True)
        updates.close()
        peaks[update] = live.peak
    assert peaks["together"] == pytest.approx(12 * matrix, rel=0.2)
    assert peaks["per_layer"] == pytest.approx(alive * matrix, rel=0.6 if alive == 1 else 0.2)


def test_hooks_let_go_of_the_model(tmp_path: Path) -> None:
    run = made(tmp_path, Optimizer(lr=0.01, clip=0.0, update="per_layer"))
    run.fit()
    assert isinstance(run.updates, PerLayer)
    assert not any(p._post_accumulate_grad_hooks for p in run.model.parameters())


def test_ddp_is_refused() -> None:
    import torch.distributed as dist

    store = dist.HashStore()
    dist.init_process_group("gloo", rank=0, world_size=1, store=store)
    try:
        wrapped = nn.parallel.DistributedDataParallel(TinyModel())
        told = Optimizer(lr=0.01, clip=0.0, update="per_layer")
        with pytest.raises(
            UserError, match="optimizer.update is per_layer.*DistributedDataParallel adds them up later"
        ):
            updates_of(wrapped, torch.optim.AdamW(wrapped.parameters()), told, Mesh())
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_recomputing_changes_no_bit(tmp_path: Path, precision: str) -> None:
    """With dropout: the second computation must draw the same masks, and leave the generator where the first did."""
    runs = []
    for activations in ("keep", "recompute"):
        told = Optimizer(lr=0.01)
        runs.append(made(tmp_path / activations, told, activations=activations, precision=precision))
        runs[-1].fit()
    assert equal(*runs) and log(tmp_path / "keep") == log(tmp_path / "recompute")


def test_recomputing_goes_with_updates_per_layer(tmp_path: Path) -> None:
    runs = []
    for activations in ("keep", "recompute"):
        told = Optimizer(lr=0.01, clip=0.0, update="per_layer")
        runs.append(made(tmp_path / activations, told, activations=activations))
        runs[-1].fit()
    assert equal(*runs)


def test_recomputing_needs_blocks(tmp_path: Path) -> None:
    from fallow.train.recompute import recompute_activations

    with pytest.raises(UserError, match="Linear has no repeated blocks. Remove it"):
        recompute_activations(nn.Linear(2, 2))


def test_bytes_and_bfloat16_learn_as_well(tmp_path: Path) -> None:
    """40 steps: the last losses of each are near those of AdamW in full."""
    ends = {}
    for name in ("adamw", "adamw8bit", "bf16"):
        made(tmp_path / name, OPTIMIZERS[name], budget=Duration(steps=40), batch=BatchSize(sequences=8, micro=8)).fit()
        losses = [json.loads(line)["loss"] for line in log(tmp_path / name).splitlines()]
        ends[name] = sum(losses[-5:]) / 5
    assert ends["adamw8bit"] == pytest.approx(ends["adamw"], rel=0.05)
    assert ends["bf16"] == pytest.approx(ends["adamw"], rel=0.1)
    assert ends["adamw"] < 0.5 * losses[0]


def test_bfloat16_weights_have_half_the_bytes_and_buffers_keep_theirs(tmp_path: Path) -> None:
    run = made(tmp_path, OPTIMIZERS["bf16"])
    assert {p.dtype for p in run.model.parameters()} == {torch.bfloat16}
    assert {b.dtype for b in run.model.buffers()} == {torch.int64}
    with pytest.raises(UserError, match="Write precision: bf16"):
        settings(7, optimizer=OPTIMIZERS["bf16"])


def test_a_stream_for_each_process_is_not_needed(tmp_path: Path) -> None:
    """The loop's rounding is that of the recipe's seed."""
    told = OPTIMIZERS["bf16"]
    one = made(tmp_path / "0", told, seed=0)
    other = Loop(TinyModel(), one.method, Stream(8), dataclasses.replace(one.settings, seed=3), Mesh(), tmp_path / "3")
    assert set(one.optimizer.streams.values()) != set(other.optimizer.streams.values())  # type: ignore[attr-defined]
