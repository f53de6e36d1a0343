"""Golden outputs are as recorded: all of what is quick, a part of what trains. `record --check` compares everything."""

import json
from collections.abc import Callable

import pytest

from tests.golden import record

SAMPLES: dict[str, Callable[[int], bool] | None] = {
    "g1": lambda number: number % 10 in (0, 3),
    "g2": lambda number: number % 10 in (1, 4),
    "g3": None,
    "g4": lambda number: number % 3 == 0,
    "g5": lambda number: number % 4 in (0, 3),
    "g6": lambda number: number % 5 == 0,
    "g7": None,
    "g8": lambda number: number % 2 == 0,
    "g9": None,
    "g10": None,
}
"""Which entries are compared here; None for all."""


@pytest.mark.parametrize("group", record.GROUPS)
def test_outputs_are_as_recorded(group: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = record.check(group, SAMPLES[group])
    assert not found, "\n".join([f"{len(found)} differences", *found[:20]])


@pytest.mark.parametrize("group", record.OF_ONE_MACHINE)
def test_the_bits_are_compared_where_they_can_be(group: str) -> None:
    recorded = record.read(group)["machine"]
    if recorded != record.machine():
        pytest.skip(f"recorded on {json.dumps(recorded)}, this is {json.dumps(record.machine())}: numbers may be near")


def test_a_difference_is_found() -> None:
    recorded = {"a": {"sha": "sha256:1", "loss": [1.0, 2.0]}, "b": 3}
    assert not record.differences(recorded, json.loads(json.dumps(recorded)), exact=True)
    made = {"a": {"sha": "sha256:2", "loss": [1.0, 2.0000001]}, "c": 3}
    found = record.differences(recorded, made, exact=True)
    assert sorted(line.partition(":")[0] for line in found) == ["/a/loss[1]", "/a/sha", "/b", "/c"]
    assert len(record.differences(recorded, made, exact=False)) == 2
    made["a"]["loss"] = [1.0, 3.0]
    assert len(record.differences(recorded, made, exact=False)) == 3
    assert record.differences([1], [1, 2], exact=False)
