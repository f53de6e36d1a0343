"""Which path computes a layer: by the table, by measurement, and what is said of it."""

import json
import time
from pathlib import Path

import pytest
import torch
from torch import nn

import fallow
from fallow.errors import UserError
from fallow.linear import Base, LowRank, ReparamLinear, Site, Sparse, Terms, timing
from fallow.linear import remembered as memory
from fallow.linear.kernels.gpu import available
from fallow.linear.kernels.library import ENVIRONMENT, library
from fallow.linear.paths import PATHS
from fallow.linear.planner import NO_GAIN, usual
from fallow.linear.timing import Timing, name_of, time_paths
from fallow.methods.base import reparam_layers
from fallow.random import Key
from fallow.supports import kind_of
from tests.paths import needs_kernels


def sparse(density: float, kind: str = "uniform", rows: int = 768) -> Sparse:
    return Sparse(kind=kind_of(kind), density=density, key=Key(0), parts=(rows,))


def low_rank(rank: int) -> LowRank:
    return LowRank(rank=rank, key=Key(0), alpha=1.0)


@needs_kernels
@pytest.mark.parametrize("engine", ["avx512", "avx2"])
def test_the_table(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = library()
    assert found is not None
    if engine not in found.engines:
        pytest.skip(f"this processor has no {engine}")
    monkeypatch.setenv(ENVIRONMENT, engine)
    shape = (768, 768)
    assert usual(Terms(sparse=sparse(0.25)), shape).path == "sparse"
    assert usual(Terms(sparse=sparse(0.5, "vector:4")), shape).path == "sparse"
    for terms, size in (
        (Terms(sparse=sparse(0.8)), shape),
        (Terms(sparse=sparse(0.25, rows=32)), (32, 32)),
        (Terms(sparse=sparse(0.25, rows=2)), (2, 70_000)),
    ):
        choice = usual(terms, size)
        assert choice.path == "materialise" and choice.why.startswith(NO_GAIN)
    assert usual(Terms(low_rank=low_rank(64), sparse=sparse(0.03)), shape).path == "factored"
    assert usual(Terms(low_rank=low_rank(700)), shape).path == "materialise"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_path_of_a_gpu_is_tried_before_it_is_timed(
    precision: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One that fails, or computes something else, is left out."""
    monkeypatch.setattr(timing, "why_not", lambda _: "")
    monkeypatch.setattr(timing, "GPU_PATHS", ("wrong", "failing", "right"))

    def failing(*_: object) -> torch.Tensor:
        raise RuntimeError("out of resources:\nshared memory")

    made = {"right": PATHS["materialise"], "wrong": lambda x, o: 1.1 * PATHS["materialise"](x, o), "failing": failing}
    for name, path in made.items():
        monkeypatch.setitem(PATHS, name, path)
    names = ["materialise", "wrong", "failing", "right"]
    rows = time_paths(
        Terms(sparse=sparse(0.25, rows=32)),
        (32, 48),
        8,
        paths=names,
        pairs=1,
        precision=precision,  # type: ignore[arg-type]
    )
    assert [row.path for row in rows] == ["dense", "materialise", "right"]
    assert "path wrong is left out at 32x48: its results differ" in caplog.text
    assert "path failing is left out at 32x48: RuntimeError: shared memory" in caplog.text


def test_paths_of_a_gpu_are_timed_on_one() -> None:
    blocks = Terms(sparse=sparse(0.25, "block:16", rows=32))
    pretended, here = torch.device("cuda"), torch.device("cpu")
    missing_here = set() if not available.missing() else {"fused", "block"}
    shape = (32, 64)
    assert {"fused", "block"} - missing_here <= set(timing._sensible(blocks, shape, 1, pretended, "bf16"))
    assert "block" not in timing._sensible(Terms(sparse=sparse(0.25)), shape, 1, pretended, "bf16")
    assert not {"fused", "block"} & set(timing._sensible(blocks, shape, 1, here, "bf16"))
    assert "path block" in usual(blocks, (32, 32), "cuda").why


def test_what_the_table_says_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    few, plain = Terms(sparse=sparse(0.25)), Terms(base=Base())
    assert NO_GAIN in usual(few, (768, 768), "cuda").why
    assert usual(plain, (8, 8)).path == "materialise"
    frozen = Terms(base=Base(trainable=False), low_rank=low_rank(4))
    assert usual(frozen, (8, 8)).path == "update"
    monkeypatch.setenv(ENVIRONMENT, "off")
    assert usual(few, (768, 768)) == ("materialise", "no compiled kernels: FALLOW_KERNELS=off")


@pytest.mark.parametrize("kind", ["uniform", "2:4", "vector:4", "block:8", "transposable"])
def test_kinds_are_named_as_recipes_write_them(kind: str) -> None:
    assert name_of(kind_of(kind)) == kind


def test_times_of_paths() -> None:
    rows = time_paths(Terms(sparse=sparse(0.25, rows=32)), (32, 48), 8, pairs=2)
    assert rows[0].path == "dense" and rows[0].ratio_to_dense == 1.0 and not rows[0].chosen
    assert {"materialise", "factored"} <= {row.path for row in rows}
    assert [row.chosen for row in rows].count(True) == 1
    best = min(rows[1:], key=lambda row: row.ratio_to_dense)
    assert best.chosen and all(row.forward_backward_ms > 0 and row.why for row in rows)
    assert rows[1].sparsity == 0.75 and rows[1].shape == "32x48" and rows[1].support == "uniform"
    with pytest.raises(UserError, match="without a base"):
        time_paths(Terms(base=Base(), sparse=sparse(0.25)), (8, 8), 2)


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[int, int]]:
    """Measurements that take no time: `materialise` is the fastest. The list has a shape for each that was made."""
    made: list[tuple[int, int]] = []

    def time_nothing(terms: Terms, shape: tuple[int, int], tokens: int, **_: object) -> list[Timing]:
        made.append(shape)
        common = {"support": "uniform", "shape": "x", "tokens": tokens, "sparsity": 0.5, "forward_backward_ms": 1.0}
        return [
            Timing(path="dense", **common, ratio_to_dense=1.0, chosen=False, why="a stock layer"),
            Timing(path="materialise", **common, ratio_to_dense=0.9, chosen=True, why="the fastest"),
        ]

    monkeypatch.setattr(memory, "time_paths", time_nothing)
    monkeypatch.setenv(memory.ENVIRONMENT, str(tmp_path / "cache"))
    return made


def test_measurements_are_remembered(pretended: list[tuple[int, int]], tmp_path: Path) -> None:
    terms = Terms(sparse=sparse(0.1))
    assert memory.measured(terms, (768, 768), 64) == ("materialise", "the fastest")
    assert memory.measured(terms, (768, 768), 64).path == "materialise"
    assert pretended == [(768, 768)]
    memory.measured(terms, (768, 768), 65)
    memory.measured(Terms(sparse=sparse(0.2)), (768, 768), 64)
    memory.timings_of(terms, (768, 768), 64, again=True)
    assert len(pretended) == 4
    [file] = (tmp_path / "cache").iterdir()
    rows = json.loads(file.read_text())
    no_choice = {key: [{**row, "chosen": False} for row in found] for key, found in rows.items()}
    wrong_type = {key: [{**row, "why": 5} for row in found] for key, found in rows.items()}
    damages = ("not JSON", "[]", json.dumps(dict.fromkeys(rows, 1)), json.dumps({key: [] for key in rows}))
    for damage in (*damages, json.dumps(no_choice), json.dumps(wrong_type)):
        file.write_text(damage)
        before = len(pretended)
        assert memory.measured(terms, (768, 768), 64) == ("materialise", "the fastest")
        assert len(pretended) == before + 1


def test_a_clock_that_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("perf_counter", "process_time"):
        monkeypatch.setattr(time, name, lambda: 5.0)
    monkeypatch.setattr(timing, "_MOST_PASSES", 3)
    rows = time_paths(Terms(sparse=sparse(0.25, rows=32)), (32, 48), 8, pairs=1)
    assert [row.chosen for row in rows].count(True) == 1


def test_a_cache_that_cannot_be_written(
    pretended: list[tuple[int, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(memory.ENVIRONMENT, str(tmp_path / "file"))
    assert memory.measured(Terms(sparse=sparse(0.1)), (768, 768), 64).path == "materialise"


def test_convert_by_measurement(pretended: list[tuple[int, int]]) -> None:
    net = nn.Sequential(nn.ModuleList([nn.Linear(256, 256), nn.Linear(256, 256), nn.Linear(256, 512)]))
    report = fallow.convert(net, "sparse", sparsity=0.9, path="measure")
    assert pretended == [(256, 256), (512, 256)]
    assert {layer.path for layer in report.converted} == {"materialise"}
    assert "path materialise (the fastest)" in str(report)


@needs_kernels
def test_another_path_from_now_on() -> None:
    site = Site("fc", (24, 40), (24,), False)
    layer = ReparamLinear.from_layer(nn.Linear(40, 24), site, Terms(sparse=sparse(0.25, rows=24)), "factored")
    x = torch.randn(5, 40)
    assert layer.structure is not None and layer.structure.numel() == 0
    before = layer(x)
    layer.use("sparse", "faster")
    assert layer.structure.numel() and layer.why == "faster"
    torch.testing.assert_close(layer(x), before)
    layer.use("materialise")
    assert layer.structure is None
    layer.use("")
    assert layer.path == "materialise" and NO_GAIN in layer.why  # too small
    for net in (nn.Sequential(layer), nn.Sequential(layer).to("meta")):
        assert reparam_layers(net)["0"].asked == ""


def test_measurements_of_a_gpu_have_a_file_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its name, and the version of the kernels that were measured."""
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "A GPU")
    monkeypatch.setattr(available, "missing", lambda: "triton is not installed")
    name = memory._file(torch.device("cuda")).name
    assert name.startswith("paths-A-GPU-") and "triton-is-not-installed" in name
    monkeypatch.setattr(available, "missing", lambda: "")
    monkeypatch.setattr(available, "version", lambda: "3.9.0 abc")
    assert "triton-3.9.0-abc" in memory._file(torch.device("cuda")).name
    assert memory._key(Terms(sparse=sparse(0.1)), (768, 768), 64, "bf16").endswith(" bf16")
