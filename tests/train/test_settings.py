import dataclasses
import math
import subprocess
import sys
from typing import Any

import pytest

from fallow.errors import UserError
from fallow.train import (
    BatchSize,
    Checkpointing,
    Duration,
    LoopSettings,
    Optimizer,
    Schedule,
    Validation,
)
from fallow.train.plan import Plan
from tests.train.tiny import CONTEXT, Stream, settings

FINE: dict[str, Any] = {
    "budget": Duration(steps=10),
    "batch": BatchSize(sequences=8, micro=4),
    "optimizer": Optimizer(lr=0.1),
}


def test_torch_is_not_needed() -> None:
    code = "import sys, fallow.train.settings; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Duration(tokens=1, steps=1), "tokens and steps are given together"),
        (lambda: Duration(steps=-1), "steps is -1, but it must be at least 0"),
        (lambda: Duration(epochs=math.nan), "epochs is nan"),
        (lambda: BatchSize(sequences=8, micro=3), "Did you mean 2?"),
        (lambda: BatchSize(sequences=0, micro=1), "sequences is 0"),
        (lambda: BatchSize(sequences=6, micro=2).accumulation(2), "Did you mean batch.micro 1?"),
        (lambda: Optimizer(lr=0), "lr is 0, but it must be above 0"),
        (lambda: Optimizer(lr=math.nan), "lr is nan"),
        (lambda: Optimizer(lr=1, betas=(0.9, 1.0)), "both must be at least 0 and below 1"),
        (lambda: Optimizer(lr=1, clip=-1), "clip is -1, but it must be at least 0"),
        (lambda: Optimizer(lr=1, weight_decay=-0.1), "weight_decay is -0.1"),
        (lambda: Optimizer(lr=1, decay="matrix"), 'Did you mean "matrices"?'),  # type: ignore[arg-type]
        (lambda: Schedule(kind="cosin"), 'Did you mean "cosine"?'),  # type: ignore[arg-type]
        (lambda: Schedule(final=1.5), "final is 1.5"),
        (lambda: Validation(keep="best"), "has no effect"),
        (lambda: Validation(patience=2), "has no effect"),
        (lambda: Checkpointing(keep=0), "keep is 0"),
        (lambda: LoopSettings(**FINE | {"budget": Duration()}), "budget is 0"),
        (lambda: LoopSettings(**FINE, label_smoothing=1.0), "label_smoothing is 1.0"),
        (lambda: LoopSettings(**FINE, schedule=Schedule(warmup=Duration(steps=10))), "the whole budget is 10 steps"),
    ],
)
def test_mistakes_are_named(make: Any, words: str) -> None:
    with pytest.raises(UserError) as caught:
        make()
    assert words in str(caught.value)


def test_warmup_in_another_unit_than_the_budget_is_checked_when_the_data_is_known() -> None:
    told = settings(10, schedule=Schedule(warmup=Duration(tokens=8 * CONTEXT * 10)))
    with pytest.raises(UserError, match="= 10 steps, but the whole budget is 10 steps"):
        Plan.of(told, Stream(8), world=1)


def test_durations_become_steps() -> None:
    told = settings(schedule=Schedule(warmup=Duration(tokens=1)), validation=Validation(every=Duration(epochs=0.5)))
    plan = Plan.of(dataclasses.replace(told, budget=Duration(epochs=3)), Stream(8), world=2)
    assert plan == Plan(num_steps=15, num_warmup=1, validate_every=3, save_every=3, accumulation=1)
    assert Duration(tokens=8 * CONTEXT * 7).num_steps(8 * CONTEXT, 5.0) == 7


@pytest.mark.parametrize("kind", ["cosine", "linear", "constant"])
def test_schedules(kind: Any) -> None:
    schedule = Schedule(kind=kind, final=0.2)
    factors = [schedule.factor(step, num_steps=104, num_warmup=4) for step in range(105)]
    assert factors[:4] == [0.2, 0.4, 0.6, 0.8]
    assert factors[4] == 1.0
    middle = {"cosine": 0.6, "linear": 0.6, "constant": 1.0}[kind]
    assert factors[54] == pytest.approx(middle)
    assert factors[104] == pytest.approx(1.0 if kind == "constant" else 0.2)
    quarter = {"cosine": 0.2 + 0.8 * (1 + math.cos(math.pi / 4)) / 2, "linear": 0.8, "constant": 1.0}[kind]
    assert factors[29] == pytest.approx(quarter)
    assert schedule.factor(0, num_steps=1, num_warmup=0) == 1.0
