import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from fallow.errors import UserError
from fallow.train import Mesh
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
