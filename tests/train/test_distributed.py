import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from fallow.errors import UserError
from fallow.train import Mesh
from tests.train.optimizers.processes import made
from tests.train.processes import LONG, losses
from tests.train.test_resume import run
from tests.train.tiny import loop, settings, weights


@pytest.fixture(scope="module")
def two(tmp_path_factory: Any) -> tuple[Path, dict[str, Any]]:
    """What two gloo processes saw; one start for all tests."""
    folder = tmp_path_factory.mktemp("two")
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "tests.train.processes"]
    command = [sys.executable, *launch, str(folder)]
    done = run(command)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder, json.loads((folder / "seen.json").read_text())


def test_processes_agree(two: Any) -> None:
    _, seen = two
    assert (seen["world"], seen["sum"], seen["any"]) == (2, 3.0, True)
    assert (seen["object"], seen["gather"]) == ({"from": 0}, [0, 1])
    assert seen["waited"]


def test_losses_are_those_of_one_process(two: Any, tmp_path: Path) -> None:
    folder, seen = two
    alone = loop(tmp_path, settings(**LONG), dropout=0.0)
    alone.fit()
    expected = losses(tmp_path)
    assert len(expected) == 20 == seen["steps"]
    assert max(abs(a - b) for a, b in zip(losses(folder / "two"), expected, strict=True)) < 1e-5
    whole = torch.load(folder / "two.pt", weights_only=True)
    for name, value in weights(alone).items():
        torch.testing.assert_close(whole[name], value, atol=1e-4, rtol=1e-4)


def test_parameters_of_odd_length_are_shared(two: Any) -> None:
    assert two[1]["num_values_here"] == [9, 9]  # of 17
    assert two[1]["optimizer_names"][0] == "optimizer.blocks.0.linear.bias.exp_avg"


def test_continued_by_two_is_bit_identical(two: Any) -> None:
    folder, seen = two
    assert (seen["broken_at"], seen["started_at"]) == (8, 7)
    assert seen["bit_identical"]
    assert (folder / "broken/log.jsonl").read_bytes() == (folder / "straight/log.jsonl").read_bytes()


def test_continued_by_one_is_equal_to_rounding(two: Any) -> None:
    folder, _ = two
    alone = loop(folder / "half", settings(**LONG), dropout=0.0, seed=5)
    alone.fit()
    assert alone.method.steps[0] == 10
    assert losses(folder / "half") == pytest.approx(losses(folder / "two"), abs=1e-5)
    whole = torch.load(folder / "two.pt", weights_only=True)
    for name, value in weights(alone).items():
        torch.testing.assert_close(whole[name], value, atol=1e-4, rtol=1e-4)


def test_all_stop_when_one_is_asked(two: Any) -> None:
    assert two[1]["stopped"] == [["signal", 6], ["signal", 6]]


def test_all_refuse_what_one_cannot_compute(two: Any) -> None:
    assert two[1]["non_finite"] == [[3, ["s17", "s19", "s21", "s23"]]] * 2


def test_best_weights_come_back(two: Any) -> None:
    assert two[1]["best"] == [6, {"loss": 0.0}, True]


def test_processes_must_begin_alike(two: Any) -> None:
    assert "begin with different weights" in two[1]["different"]


def test_processes_must_share_the_batch(two: Any) -> None:
    assert "Did you mean batch.micro 1?" in two[1]["odd_batch"]


def test_one_process_needs_no_group() -> None:
    with Mesh.start("cpu") as mesh:
        assert (mesh.rank, mesh.world, mesh.device.type) == (0, 1, "cpu")
        assert mesh.gather("x") == ["x"]
        assert not torch.distributed.is_initialized()


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(UserError, match="Did you mean auto, cpu or cuda"):
        Mesh.start("gpu")
    with pytest.raises(UserError, match="Write --device cpu"):
        Mesh.start(f"cuda:{torch.cuda.device_count()}")


SAME = {
    "per layer": "together",
    "recomputed": "together",
    "per layer, recomputed": "together",
    "per layer, reduced once": "reduced once",
    "per layer, clipped": "clipped",
    "per layer, bytes": "bytes",
}


@pytest.fixture(scope="module")
def ends(two: Any) -> dict[str, dict[str, torch.Tensor]]:
    """The weights that each case came to on two processes."""
    return torch.load(two[0] / "optimizers" / "ends.pt", weights_only=True)


def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return max(float((value.float() - other[name]).abs().max()) for name, value in one.items())


@pytest.mark.parametrize("case", SAME)
def test_updates_per_layer_and_recomputing_change_no_bit_on_shards(ends: Any, case: str) -> None:
    assert apart(ends[case], ends[SAME[case]]) == 0


@pytest.mark.parametrize(
    ("case", "bound"), [("together", 1e-6), ("clipped", 1e-6), ("bytes", 0.01), ("reduced once", 1e-6)]
)
def test_optimizers_on_shards_are_those_of_one_process(ends: Any, tmp_path: Path, case: str, bound: float) -> None:
    """To rounding; with 8-bit moments, whose blocks are cut otherwise, to less than one step of 0.01."""
    alone = made(tmp_path, case, Mesh())
    alone.fit()
    assert apart(weights(alone), ends[case]) <= bound


def test_bytes_are_shared_out_and_continued(two: Any, ends: Any) -> None:
    seen = two[1]["optimizers"]
    for name in ("exp_avg", "exp_avg_sq"):
        assert seen["shapes"][name] == [[17], [9]] and seen["shapes"][f"{name}_scale"] == [[2, 1], [1, 1]]
    assert seen["resumed"], "bit for bit by as many processes"
    alone = made(two[0] / "optimizers" / "half", "bytes", Mesh(), seed=4)
    alone.fit()
    assert alone.method.steps == [3, 4, 5]
    assert apart(weights(alone), ends["bytes"]) < 0.01
    assert seen["from one"] == [3, 4, 5]
    assert apart(ends["from one"], ends["bytes"]) < 0.01


def test_all_refuse_updates_per_layer_when_one_loss_is_infinite(two: Any) -> None:
    assert two[1]["optimizers"]["non-finite"] == [[3, True], [3, True]]


def test_galore_is_for_one_process(two: Any) -> None:
    assert "optimizer.galore works on one process" in two[1]["optimizers"]["galore"]
