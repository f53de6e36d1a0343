"""Triton's compiler accepts the kernels, for GPUs that are not here; its interpreter is more generous."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHARED = 99 * 1024
"""Bytes of shared memory that a program may have on the smaller GPUs from compute capability 8.0 on."""

KERNELS = {"build_rows", "build_tiles", "take_rows", "forward", "backward_input", "backward_values"}


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
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {row["name"] for row in rows} == KERNELS and len(rows) == 2 * 5 + 3 * 3
    for row in rows:
        assert row["bytes"] > 1000 and row["shared"] <= SHARED, row
    for name in ("build_rows", "build_tiles"):
        # what threads wrote must be there before others of the same program write over it or add to it
        assert next(row for row in rows if row["name"] == name)["waits"], name
