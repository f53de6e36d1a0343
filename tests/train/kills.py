"""Runs the tiny training undisturbed, and again with `kill -9` at random moments; writes what became of both.

torch is imported once; each run is a fork, and a kill is a real one.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

from fallow.train import BatchSize, Callback, Checkpointing, Duration, Validation
from tests.train.tiny import loop, settings, weights

STEPS = 40


class Started(Callback):
    """Notes where each start began."""

    def on_start(self, loop: Any) -> None:
        with (loop.folder / "starts").open("a") as file:
            file.write(f"{loop.num_steps_done}\n")


def train(folder: Path) -> None:
    told = settings(
        STEPS,
        batch=BatchSize(sequences=8, micro=2),
        validation=Validation(every=Duration(steps=10), keep="best"),
        checkpoint=Checkpointing(every=Duration(steps=8)),
    )
    folder.mkdir(exist_ok=True)
    run = loop(folder, told, callbacks=(Started(),))
    run.fit()
    torch.save(weights(run), folder / "end.pt")


def fork(folder: Path) -> int:
    child = os.fork()
    if child == 0:
        try:
            train(folder)
            os._exit(0)
        finally:
            os._exit(1)
    return child


def num_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def main(folder: Path, num_kills: int) -> None:
    assert os.waitpid(fork(folder / "calm"), 0)[1] == 0
    moments = sorted(random.sample(range(2, STEPS), num_kills))
    for moment in moments:
        child = fork(folder / "killed")
        log = folder / "killed" / "log.jsonl"
        while num_lines(log) < moment and os.waitpid(child, os.WNOHANG)[0] == 0:
            time.sleep(0.0005)
        time.sleep(random.random() * 0.02)  # also inside a save
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert os.waitpid(fork(folder / "killed"), 0)[1] == 0
    (folder / "moments.json").write_text(json.dumps(moments))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), int(sys.argv[2]))
