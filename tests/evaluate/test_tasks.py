"""Which tasks are asked with how many shots. Oracle: table 2 of the paper, copied below."""

import pytest

from fallow.config import from_dict
from fallow.errors import UserError
from fallow.evaluate.tasks import PRESETS, Tasks

TABLE_2 = "SciQ, PIQA, WinoGrande, ARC-E, ARC-C (25), HellaSwag (10), LogiQA, BoolQ (32), LAMBADA, NQ (32), MMLU (5)"
NAMES = {
    "SciQ": "sciq", "PIQA": "piqa", "WinoGrande": "winogrande", "ARC-E": "arc_easy", "ARC-C": "arc_challenge",
    "HellaSwag": "hellaswag", "LogiQA": "logiqa", "BoolQ": "boolq", "LAMBADA": "lambada_openai", "NQ": "nq_open",
    "MMLU": "mmlu",
}  # fmt: skip


def test_the_preset_is_the_papers_table() -> None:
    printed = {}
    for entry in TABLE_2.split(", "):
        title, _, shots = entry.partition(" (")
        printed[NAMES[title]] = int(shots.rstrip(")") or 0)
    assert {asked.name: asked.shots for asked in PRESETS["sheared-llama"]} == printed


def test_what_is_asked() -> None:
    assert [(one.name, one.shots) for one in Tasks(names=("a", "b")).asked()] == [("a", -1), ("b", -1)]
    assert [(one.name, one.shots) for one in Tasks(names=("a",), shots=3).asked()] == [("a", 3)]
    assert [(one.name, one.shots) for one in Tasks(preset="sheared-llama", names=("mmlu",)).asked()] == [("mmlu", 5)]
    assert not Tasks() and Tasks(preset="sheared-llama") and len(Tasks(preset="sheared-llama").asked()) == 11


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": "x"}, "path has no effect without tasks"),
        ({"limit": 3}, "limit has no effect without tasks"),
        ({"names": ["a"], "limit": -1}, "limit is -1"),
        ({"names": ["a", "a"]}, "names holds a twice"),
        ({"preset": "sheared-llama", "shots": 3}, "shots has no effect with preset sheared-llama"),
        ({"preset": "sheared-llama", "names": ["arc_chalenge"]}, 'Did you mean "arc_challenge"'),
        ({"preset": "sheared"}, "Did you mean sheared-llama"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        from_dict(Tasks, settings)
