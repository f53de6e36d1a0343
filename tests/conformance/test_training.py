"""Every method trains the same whatever the number of processes and interruptions."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import fallow
from fallow.config import flatten
from fallow.methods import method_of
from fallow.shearing.kept import KEPT_FILE
from fallow.train import Mesh, Schedule
from tests.conformance.sheared import lines_of, shear, write_text
from tests.conformance.table import TRAINED
from tests.conformance.test_methods import absent
from tests.conformance.training import STEPS, loop, losses, rates

ROOT = Path(__file__).parents[2]
names = pytest.mark.parametrize("name", TRAINED)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """All rows on two processes, in one process group."""
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    done = subprocess.run(
        [*command, "-m", "tests.conformance.training", str(folder)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder, json.loads((folder / "seen.json").read_text())


@names
def test_two_processes_train_as_one(name: str, two: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, seen = two
    loop(TRAINED[name], tmp_path, Mesh()).fit()
    one = losses(tmp_path)
    assert len(one) == STEPS and one[-1] < one[0]
    assert one == pytest.approx(losses(folder / str(list(TRAINED).index(name)) / "two"), abs=1e-5)
    assert seen[name] == {"equal supports": True, "resumed bit-identical": True}


@names
def test_one_process_continues_what_two_began(name: str, two: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, _ = two
    two_of_them = folder / str(list(TRAINED).index(name)) / "broken"
    # the finished run of two processes is taken over by one: same weights, to rounding of one more forward
    taken = loop(TRAINED[name], two_of_them, Mesh())
    assert taken.fit().steps == STEPS
    alone = loop(TRAINED[name], tmp_path, Mesh())
    alone.fit()
    for (key, a), (_, b) in zip(taken.model.named_parameters(), alone.model.named_parameters(), strict=True):
        a, b = without_noise(key, a), without_noise(key, b)
        torch.testing.assert_close(a, b, rtol=0, atol=2e-5, msg=lambda text, key=key: f"{key}: {text}")


def without_noise(key: str, parameter: torch.Tensor) -> torch.Tensor:
    """A key's bias adds the same to all scores of a query: its gradient is rounding, and Adam makes steps of that."""
    if not key.endswith("c_attn.bias"):
        return parameter
    query, _, value = parameter.chunk(3)
    return torch.cat([query, value])


@names
def test_interrupted_equals_uninterrupted_and_zeros_stay(name: str, tmp_path: Path) -> None:
    straight = loop(TRAINED[name], tmp_path / "straight", Mesh())
    zeros = absent(straight.model)
    straight.fit()
    with contextlib.suppress(InterruptedError):
        loop(TRAINED[name], tmp_path / "broken", Mesh(), crash=10).fit()
    again = loop(TRAINED[name], tmp_path / "broken", Mesh())
    again.fit()
    for (key, a), (_, b) in zip(straight.model.named_parameters(), again.model.named_parameters(), strict=True):
        assert torch.equal(a, b), key
    assert (tmp_path / "broken" / "log.jsonl").read_bytes() == (tmp_path / "straight" / "log.jsonl").read_bytes()
    merged = fallow.merge(again.model) if TRAINED[name].merges else again.model
    for key, zero in zeros.items():
        assert int(merged.get_submodule(key).weight.detach().t()[zero].count_nonzero()) == 0


@pytest.mark.parametrize("name", ["dense", "sparse", "sltrain", "relora", "lora", "shear"])
def test_updates_per_layer_are_the_global_one_bit_for_bit(name: str, tmp_path: Path) -> None:
    """With gradients of two micro-batches added up. The rows that are left out have the terms of one of these."""
    found = []
    for update in ("together", "per_layer"):
        made = loop(TRAINED[name], tmp_path / update, Mesh(), micro=4, update=update, clip=0.0)
        made.fit()
        found.append(dict(made.model.named_parameters()))
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])
    lines = [(tmp_path / update / "log.jsonl").read_bytes() for update in ("together", "per_layer")]
    assert lines[0] == lines[1]


@names
def test_accumulation_changes_nothing_but_rounding(name: str, tmp_path: Path) -> None:
    found = []
    for micro in (8, 4, 2):
        loop(TRAINED[name], tmp_path / str(micro), Mesh(), micro=micro).fit()
        found.append(losses(tmp_path / str(micro)))
    assert found[0] == pytest.approx(found[1], abs=1e-5)
    assert found[0] == pytest.approx(found[2], abs=1e-5)
    curves = [rates(tmp_path / str(micro)) for micro in (8, 4, 2)]
    assert curves[0] == curves[1] == curves[2]  # a step of the schedule is an update, not a micro-batch
    method = method_of(TRAINED[name].method, **TRAINED[name].settings)
    ended = TRAINED[name].rate * Schedule().factor(STEPS - 1, STEPS, 2) * method.lr_factor(STEPS - 1)
    assert len(curves[0]) == STEPS and curves[0][-1] == pytest.approx(ended)


def test_a_sheared_recipe_on_two_processes_is_that_of_one(two: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """Gates, multipliers, shares that follow the losses, the cut, and moments that are cut and handed on."""
    write_text(tmp_path)
    shear(tmp_path, "alone")
    one, both = tmp_path / "alone", two[0] / "sheared"
    for stage in ("prune", "continue"):
        for a, b in zip(lines_of(one, stage), lines_of(both, stage), strict=True):
            assert a.pop("tokens") == b.pop("tokens")
            assert flatten(a) == pytest.approx(flatten(b), abs=1e-4)
    for a, b in zip(*(lines_of(folder, "prune", "method.jsonl") for folder in (one, both)), strict=True):
        verdicts = a.pop("verdict"), b.pop("verdict")
        assert flatten(a) == pytest.approx(flatten(b), abs=1e-4), verdicts
    for file in (f"prune/model/{KEPT_FILE}", "continue/model/model.safetensors"):
        alone, shared = (load_file(folder / file) for folder in (one, both))
        for key, tensor in alone.items():
            torch.testing.assert_close(
                shared[key], tensor, rtol=0, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}"
            )
