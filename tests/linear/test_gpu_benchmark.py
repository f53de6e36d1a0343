"""`benchmarks/gpu.py`: says that there is no GPU, and goes through all of its rows without one."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from fallow.linear.kernels.gpu import available
from tests.paths import needs_triton

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("gpu_benchmark", FOLDER / "gpu.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_without_a_gpu(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    with pytest.raises(SystemExit, match="no CUDA device here, so nothing is timed"):
        script.main()


@needs_triton
@pytest.mark.skipif(not available.interpreted(), reason="there is a GPU")
def test_the_way_through_it(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "write_record", lambda *_, **__: pytest.fail("a rehearsal is no record"))
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--rehearse", "--paths", "block", "semi_structured"])
    script.main()
    lines = capsys.readouterr().out.splitlines()
    assert sum("dense" in line for line in lines) == 3
    assert [line for line in lines if "semi_structured" in line and "not timed: it is for GPUs" in line]


def test_goals(script: ModuleType) -> None:
    row = {"path": "block", "shape": "64x64", "tokens": 8192, "support": "block:64", "sparsity": 0.75, "rank": 0}
    row["weights"] = "bf16"
    missed = {**row, "goal": 2.0, "speed_up": 1.5, "middle_half": [1.4, 1.6], "dense_ms": 1.0}
    assert "goal 2.00 MISSED" in script.line_of(missed)
    assert "goal 2.00 met" in script.line_of({**missed, "speed_up": 2.0})
    assert "not timed: broken  goal 2.00 MISSED" in script.line_of(
        {**row, "goal": 2.0, "speed_up": None, "why": "broken"}
    )


def test_the_page_tells_missed_goals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    page = importlib.import_module("speed_page")
    row = {"path": "block", "shape": "64x64", "tokens": 8192, "support": "block:64", "sparsity": 0.75, "rank": 0}
    rows = [
        {**row, "weights": "bf16", "goal": 2.0, "speed_up": 1.5, "dense_ms": 1.25},
        {**row, "weights": "bf16", "goal": None, "speed_up": None, "why": "it failed"},
    ]
    gpu = {"name": "A GPU", "cuda": "13.0", "triton": "3.9.0"}
    record = {"results": rows, "gpu": gpu, "versions": {"torch": "2.13.0"}, "date": "2026-01-01", "path": "p.json"}
    monkeypatch.setattr(page, "newest", lambda _: record)
    table = page.gpu().splitlines()
    assert table[2].endswith("| bf16 | 1.25 | 1.50 (missed) | 2.00 |")
    assert table[3].endswith("| bf16 |  | not timed: it failed |  |")
    assert table[-1].startswith("A GPU, CUDA 13.0")
