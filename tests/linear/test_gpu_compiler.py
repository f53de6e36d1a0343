"""Triton's compiler accepts the kernels, for GPUs that are not here; its interpreter is more generous."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHARED = 160 * 1024
"""Bytes of shared memory of a multiprocessor, at compute capability 8.0."""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_machine_code_is_made(tmp_path: Path) -> None:
    plain = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(Path(__file__).with_name("compile_gpu.py"))],
        env={**plain, "TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert not done.returncode, done.stderr[-3000:]
    lines = [line.split() for line in done.stdout.splitlines()]
    assert len(lines) >= 11
    for name, _, size, shared, waits in lines:
        assert int(size) > 1000 and int(shared) <= SHARED, name
        # what threads wrote must be there before others of the same program write over it or add to it
        assert waits == "True" or not name.startswith("build_"), name
