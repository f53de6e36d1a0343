"""A sample of bad recipes and flags: each is refused in one line, or taken, in little time."""

import pytest

from fallow.config import parse
from tests.attack import inputs_recipes as attack


def test_values_of_other_types() -> None:
    for case in attack.sample(80):
        verdict = attack.judge(case)
        assert verdict.outcome in ("refused", "accepted"), (case.name, verdict)
        if verdict.outcome == "refused":
            assert len(verdict.text) < 2_000, case.name


@pytest.mark.parametrize("kind", attack.TEXTS)
def test_texts_that_are_no_recipe(kind: str, tmp_path) -> None:
    (tmp_path / "r.yaml").write_text(attack.TEXTS[kind])
    verdict = attack.judge_flags(["run", str(tmp_path / "r.yaml"), "--print"])
    assert verdict.outcome == "refused", verdict


def test_odd_flags() -> None:
    for argv in list(attack.bad_flags())[::5]:
        verdict = attack.judge_flags(argv)
        assert verdict.outcome in ("refused", "accepted"), (argv, verdict)


def endless() -> None:
    while True:
        pass


def test_the_judge_can_fail() -> None:
    assert attack._timed(lambda: 1 // 0, 5).outcome == "traceback"
    assert attack._timed(endless, 0.1).outcome == "hang"
    assert attack._timed(lambda: parse("a: ["), 5).outcome == "refused"
