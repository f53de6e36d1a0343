import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fallow.train import BatchSize, Duration, Validation
from tests.train.tiny import BreakAfter, CrashError, loop, settings, weights

ROOT = Path(__file__).parents[2]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run Python with this package and these tests, one thread a process."""
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=240)


@pytest.mark.parametrize("step", [1, 4, 6, 11])
def test_broken_off_and_continued_is_undisturbed(tmp_path: Path, step: int) -> None:
    calm = loop(tmp_path / "calm")
    expected = calm.fit()
    with pytest.raises(CrashError):
        loop(tmp_path / "broken", callbacks=(BreakAfter(step),)).fit()
    again = loop(tmp_path / "broken", seed=7)  # other weights at the start: all must come from the checkpoint
    if step < 3:
        again = loop(tmp_path / "broken")
    result = again.fit()
    assert again.method.steps[0] == (step - 1) // 3 * 3 + 1
    assert all(torch.equal(value, weights(again)[name]) for name, value in weights(calm).items())
    assert (tmp_path / "broken/log.jsonl").read_bytes() == (tmp_path / "calm/log.jsonl").read_bytes()
    assert (result.loss, result.tokens, result.validation) == (expected.loss, expected.tokens, expected.validation)


def test_a_run_that_ended_returns_at_once(tmp_path: Path) -> None:
    first = loop(tmp_path)
    result = first.fit()
    log = (tmp_path / "log.jsonl").read_bytes()
    second = loop(tmp_path, seed=3)
    assert second.fit() == result
    assert second.method.steps == []
    assert (tmp_path / "log.jsonl").read_bytes() == log
    assert all(torch.equal(value, weights(second)[name]) for name, value in weights(first).items())


def test_early_stopping_and_best_weights_survive_a_restart(tmp_path: Path) -> None:
    measured = {2: 5.0, 4: 3.0, 6: 4.0, 8: 3.5, 10: 1.0}

    def make(folder: str, *callbacks: BreakAfter) -> object:
        told = settings(20, validation=Validation(every=Duration(steps=2), keep="best", patience=2))
        made = loop(tmp_path / folder, told, callbacks=callbacks)
        made.validate = lambda: {"loss": measured[made.num_steps_done]}
        return made

    calm = make("calm")
    expected = calm.fit()  # type: ignore[attr-defined]
    assert (expected.stopped, expected.steps, expected.best_step) == ("early", 8, 4)
    with pytest.raises(CrashError):
        make("broken", BreakAfter(7)).fit()  # type: ignore[attr-defined]
    again = make("broken")
    result = again.fit()  # type: ignore[attr-defined]
    assert (result.stopped, result.steps, result.best_step) == ("early", 8, 4)
    assert all(torch.equal(value, weights(again)[name]) for name, value in weights(calm).items())  # type: ignore[arg-type]
    assert (tmp_path / "broken/log.jsonl").read_bytes() == (tmp_path / "calm/log.jsonl").read_bytes()


def test_the_best_weights_of_the_checkpoint_before_stay(tmp_path: Path) -> None:
    """The newest checkpoint is damaged; the one before speaks of other best weights, and they are still there."""
    measured = {2: 5.0, 4: 3.0, 6: 2.0, 8: 9.0, 10: 9.0, 12: 9.0}

    def make(*callbacks: BreakAfter, top: dict[int, float] = measured) -> object:
        told = settings(12, validation=Validation(every=Duration(steps=2), keep="best"))
        made = loop(tmp_path, told, callbacks=callbacks)
        made.validate = lambda: {"loss": top[made.num_steps_done]}
        return made

    with pytest.raises(CrashError):
        make(BreakAfter(7)).fit()  # type: ignore[attr-defined]
    next((tmp_path / "checkpoints/step-000006").glob("*.distcp")).write_bytes(b"")
    assert {path.name for path in (tmp_path / "best").iterdir()} == {"step-000002", "step-000006"}
    worse = make(top=dict.fromkeys(measured, 9.0))
    assert worse.fit().best_step == 2  # type: ignore[attr-defined]


def test_killed_at_random_moments(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.train.kills", str(tmp_path), "4"]
    done = run(command)
    assert done.returncode == 0, done.stderr
    moments = json.loads((tmp_path / "moments.json").read_text())
    starts = [int(line) for line in (tmp_path / "killed/starts").read_text().split()]
    assert max(starts) > 0, "no run was continued"
    calm, killed = (torch.load(tmp_path / name / "end.pt", weights_only=True) for name in ("calm", "killed"))
    assert all(torch.equal(value, killed[name]) for name, value in calm.items()), moments
    assert (tmp_path / "killed/log.jsonl").read_bytes() == (tmp_path / "calm/log.jsonl").read_bytes(), moments


def test_the_batch_may_be_cut_otherwise_after_a_restart(tmp_path: Path) -> None:
    calm = loop(tmp_path / "calm", dropout=0.0)
    calm.fit()
    with pytest.raises(CrashError):
        loop(tmp_path / "broken", dropout=0.0, callbacks=(BreakAfter(5),)).fit()
    again = loop(tmp_path / "broken", settings(batch=BatchSize(sequences=8, micro=2)), dropout=0.0)
    again.fit()
    for name, value in weights(calm).items():
        torch.testing.assert_close(weights(again)[name], value, atol=1e-4, rtol=1e-4)
