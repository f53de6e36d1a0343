"""Ranks end with their launcher, however that ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.run.tiny import environment

RANK = """
import os, sys, time
from pathlib import Path
from fallow.train import Mesh
with Mesh.start("cpu") as mesh:
    Path(sys.argv[1], str(mesh.rank)).write_text(str(os.getpid()))
    time.sleep(120)
"""


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def until(what: object, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():  # type: ignore[operator]
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the system says nothing of a parent that died")
def test_kill_9_of_the_launcher_ends_both_ranks(tmp_path: Path) -> None:
    script, told = tmp_path / "rank.py", [tmp_path / "0", tmp_path / "1"]
    script.write_text(RANK)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script), str(tmp_path)]
    launcher = subprocess.Popen([sys.executable, *launch], env=environment(), stderr=subprocess.DEVNULL)
    pids: list[int] = []
    try:
        assert until(lambda: all(path.exists() and path.read_text() for path in told), 90)
        pids = [int(path.read_text()) for path in told]
        launcher.send_signal(signal.SIGKILL)
        launcher.wait()
        assert until(lambda: not any(map(is_running, pids)), 20)
    finally:
        launcher.kill()
        for pid in filter(is_running, pids):
            os.kill(pid, signal.SIGKILL)
