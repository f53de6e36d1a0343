import io
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from fallow.errors import UserError
from fallow.train import Callback, Console, Signals, TensorBoard, TimingLog
from tests.train.tiny import BreakAfter, CrashError, loop, settings, weights


def test_the_log_has_nothing_that_changes_from_run_to_run(tmp_path: Path) -> None:
    for name in ("a", "b"):
        loop(tmp_path / name).fit()
    assert (tmp_path / "a/log.jsonl").read_bytes() == (tmp_path / "b/log.jsonl").read_bytes()
    first = json.loads((tmp_path / "a/log.jsonl").read_text().splitlines()[0])
    assert list(first) == ["step", "tokens", "loss", "norm", "lr"]


def test_timing_is_kept_apart(tmp_path: Path) -> None:
    loop(tmp_path, callbacks=(TimingLog(tmp_path / "timing.jsonl", every=5),)).fit()
    lines = [json.loads(line) for line in (tmp_path / "timing.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [5, 10, 12]
    assert all(line["tokens_per_second"] > 0 and line["seconds"] > 0 for line in lines)
    assert all(10e6 < line["rss_bytes"] <= line["peak_rss_bytes"] * 1.1 for line in lines)


def test_plain_lines_where_there_is_no_terminal(tmp_path: Path) -> None:
    out = io.StringIO()
    loop(tmp_path, callbacks=(Console("pretrain", every=5, stream=out),)).fit()
    lines = out.getvalue().splitlines()
    steps = [line for line in lines if "loss" in line and "tok/s" in line]
    assert [line.split()[2] for line in steps] == ["1/12", "5/12", "10/12", "12/12"]
    assert sum("validation" in line for line in lines) == 3
    assert sum("saved" in line for line in lines) == 4
    assert lines[-1].startswith("pretrain: done after 12 steps")
    assert all(line.isascii() and "\x1b" not in line for line in lines)


def test_a_bar_on_a_terminal(tmp_path: Path) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    loop(tmp_path, callbacks=(Console("pretrain", stream=out),)).fit()
    assert "12/12" in out.getvalue()
    assert "pretrain: done" in out.getvalue()


def test_a_continued_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(CrashError):
        loop(tmp_path, callbacks=(BreakAfter(7),)).fit()
    out = io.StringIO()
    loop(tmp_path, callbacks=(Console(stream=out),)).fit()
    assert out.getvalue().startswith("train: continues at step 6 of 12")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_leaves(tmp_path: Path, number: signal.Signals) -> None:
    class Send(Callback):
        def on_step(self, loop: Any, record: Any) -> None:
            if record.step == 5:
                os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    result = loop(tmp_path / "run", callbacks=(Signals(), Send())).fit()
    assert (result.stopped, result.steps, result.finished) == ("signal", 5, False)
    assert signal.getsignal(number) is before
    again, calm = loop(tmp_path / "run"), loop(tmp_path / "calm")
    again.fit(), calm.fit()
    assert again.method.steps[0] == 6
    assert all(torch.equal(value, weights(again)[name]) for name, value in weights(calm).items())
    assert (tmp_path / "run/log.jsonl").read_bytes() == (tmp_path / "calm/log.jsonl").read_bytes()


def test_a_second_interrupt_does_not_wait(tmp_path: Path) -> None:
    class Send(Callback):
        def on_step(self, loop: Any, record: Any) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        loop(tmp_path, callbacks=(Signals(), Send())).fit()
    assert signal.getsignal(signal.SIGINT) is before


def test_tensorboard_writes_curves(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    loop(tmp_path, settings(6), callbacks=(TensorBoard(tmp_path / "board"),)).fit()
    events = EventAccumulator(str(tmp_path / "board")).Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]
    assert [event.step for event in events.Scalars("valid/loss")] == [4, 6]


def test_tensorboard_is_asked_for_by_name(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match=r"pip install 'fallow\[track\]'"):
        TensorBoard(tmp_path)
