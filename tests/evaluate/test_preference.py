"""Pairs, judges in processes of their own, verdicts on disk, the win rate. Oracles: counts by hand; scipy."""

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fallow.errors import UserError
from fallow.evaluate.preference.comparison import compare
from fallow.evaluate.preference.judge import Judge
from fallow.evaluate.preference.rate import WinRate, interval, win_rate
from fallow.evaluate.preference.responses import Pair, read_pairs
from fallow.evaluate.preference.verdicts import Verdicts

SCRIPT = Path(__file__).with_name("judges.py")
PAIRS = [
    Pair("1", "Say hello.", "Hello, how are you?", "Hello."),
    Pair("2", "Count.", "1", "1, 2, 3"),
    Pair("3", "Name a crop.", "barley", "clover"),
    Pair("4", "Why fallow?", "The soil rests.", "So that it rest"),
    Pair("5", "Rain?", "", "It may."),
    Pair("6", "Go on.", "After the harvest", "Then"),
]


def command(name: str, number: int | None = None) -> str:
    return shlex.join([sys.executable, str(SCRIPT), name, *([] if number is None else [str(number)])])


def judged(
    name: str, number: int | None = None, pairs: Sequence[Pair] = PAIRS, path: Path | None = None, **settings: Any
) -> tuple[WinRate, Verdicts]:
    verdicts = Verdicts(path, pairs, name)
    with Judge(command(name, number), timeout=60) as judge:
        compare(pairs, judge, verdicts, **settings)
    return win_rate(pairs, verdicts), verdicts


def test_counts_by_hand() -> None:
    found, _ = judged("length")
    # 1, 6 won; 2, 5 lost; 3, 4 of equal length
    assert (found.wins, found.losses, found.ties) == (2, 2, 2)
    assert found.win_rate == found.shown_first == found.shown_second == 0.5
    assert found.agreement == 1.0 and found.first_share == 0.5 and found.failures == 0
    one, _ = judged("length", pairs=PAIRS[:1])
    assert one.win_rate == 1.0 and one.low < 1.0 and one.high == 1.0


def test_a_judge_of_places_decides_nothing_and_is_found_out() -> None:
    found, _ = judged("position")
    assert found.win_rate == 0.5 and found.ties == 6
    assert (found.shown_first, found.shown_second) == (1.0, 0.0)
    assert found.first_share == 1.0 and found.agreement == 0.0


def test_a_leaning_judge_is_corrected_where_it_leans() -> None:
    found, verdicts = judged("leaning")
    # as by length, but the two pairs of equal length go to the first place in both orders
    assert found.win_rate == 0.5 and (found.wins, found.losses, found.ties) == (2, 2, 2)
    assert found.agreement == pytest.approx(4 / 6) and found.first_share == pytest.approx(4 / 6)
    assert [verdicts.get("3", order).better for order in ("ab", "ba")] == ["a", "b"]  # type: ignore[union-attr]


def test_answers_that_mean_nothing_are_counted_and_their_pairs_left_out() -> None:
    found, verdicts = judged("mumbles")
    # every third of 12 answers: the ab of 2 and 5, the ba of 3 and 6
    assert found.failures == 4 and found.num_judged == 2 and found.num_pairs == 6
    assert {key for key in "123456" if verdicts.get(key, "ab").better and verdicts.get(key, "ba").better} == {"1", "4"}  # type: ignore[union-attr]
    assert found.win_rate == 0.75
    again, _ = judged("mumbles", retries=1)
    assert again.failures == 0 and again.win_rate == 0.5
    with pytest.raises(UserError, match=r"none of 6 pairs has two verdicts; 12 of 12 answers were not understood"):
        judged("confused")


def test_several_at_once_and_answers_without_ids() -> None:
    assert judged("backwards", 4, ahead=4)[0] == judged("length")[0] == judged("anonymous")[0]


def test_goes_on_after_the_judge_died(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.jsonl"
    with pytest.raises(UserError, match="the judge ended with exit code 3 before all was judged"):
        judged("dies", 5, path=path)
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 6  # a head and five verdicts
    path.write_bytes(b"".join(lines)[:-10])  # and the machine died, too
    again = Verdicts(path, PAIRS, "dies")
    assert len(again) == 4
    asked: list[str] = []

    class Counting(Judge):
        def ask(self, question: Any) -> None:
            asked.append(question["id"])
            super().ask(question)

    with Counting(command("length")) as judge:
        compare(PAIRS, judge, again)
    assert asked[0] == "3/ab" and len(asked) == 8
    assert win_rate(PAIRS, again) == judged("length")[0]
    stored = [json.loads(line) for line in path.read_text().splitlines()]
    assert stored[0]["format"] == "fallow-verdicts" and len(stored) == 13
    assert "caf\\u00e9" in stored[1]["reply"] or "caf\u00e9" in stored[1]["reply"]
    assert win_rate(PAIRS, Verdicts(path, PAIRS, "dies")) == win_rate(PAIRS, again)


def test_verdicts_of_something_else_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.jsonl"
    judged("length", path=path)
    with pytest.raises(UserError, match=r"holds verdicts on another judge \(length\)"):
        Verdicts(path, PAIRS, "position")
    with pytest.raises(UserError, match="holds verdicts on other responses"):
        Verdicts(path, PAIRS[:3], "length")
    path.write_text("something\n")
    with pytest.raises(UserError, match="holds something else than verdicts"):
        Verdicts(path, PAIRS, "length")


def test_a_silent_judge_and_one_that_cannot_run() -> None:
    verdicts = Verdicts(None, PAIRS, "silent")
    with (
        pytest.raises(UserError, match="said nothing for 0.5 s"),
        Judge(command("silent"), timeout=0.5) as judge,
    ):
        compare(PAIRS, judge, verdicts)
    with pytest.raises(UserError, match="the judge no-such-judge cannot be run"):
        Judge("no-such-judge --now")
    with pytest.raises(UserError, match="Close the quotes"):
        Judge("python 'judge.py")


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_files_of_responses(tmp_path: Path) -> None:
    a = write(tmp_path / "a.jsonl", [{"id": 1, "prompt": "p", "text": "x"}, {"id": 2, "prompt": "q", "text": "y"}])
    b = write(
        tmp_path / "b.jsonl",
        [{"id": 2, "instruction": "q", "response": "v"}, {"id": 1, "instruction": "p", "output": ""}],
    )
    assert read_pairs(a, b) == [Pair("1", "p", "x", ""), Pair("2", "q", "y", "v")]
    listed = tmp_path / "list.json"
    listed.write_text(json.dumps([{"prompt": "p", "text": "x"}, {"prompt": "q", "text": "y"}], indent=1))
    texts = write(  # of --texts, where the longest comes first
        tmp_path / "t.jsonl",
        [
            {"format": "fallow-texts"},
            {"context": "q", "text": "2", "prompt": "7 8"},
            {"context": "p", "text": "1", "prompt": "9"},
        ],
    )
    assert read_pairs(listed, texts) == [Pair("1", "p", "x", "1"), Pair("2", "q", "y", "2")]


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([], [{"prompt": "p", "text": "x"}], "a.jsonl holds no response"),
        ([{"prompt": "p"}], [], r"a.jsonl:1 has no response. It has: prompt. Write response, output or text"),
        ([{"text": "p"}], [], r"has no instruction"),
        ([{"prompt": "p", "text": 3}], [], "has a number in text, but text is needed"),
        ([{"prompt": "p", "text": "x"}] * 2, [{"prompt": "p", "text": "x"}], "has 2 responses and .* has 1"),
        ([{"prompt": "p", "text": None}], [], 'has null in text, but text is needed. An empty answer is ""'),
        (
            [{"prompt": "p", "text": "x"}],
            [{"prompt": "p", "text": "x"}, {"prompt": "r", "text": "x"}],
            "1 instructions are answered in one file only: .*a.jsonl has no response to 'r', but .*b.jsonl has",
        ),
        (
            [{"prompt": p, "text": "x"} for p in "pqq"],
            [{"prompt": p, "text": "x"} for p in "qqp"],
            r"number 1 \(1\) of .* answers 'p', but",
        ),
        ([{"id": 1, "prompt": "p", "text": "x"}] * 2, [{"id": 1, "prompt": "p", "text": "x"}], "1 different ids"),
        (
            [{"id": 1, "prompt": "p", "text": "x"}],
            [{"id": 2, "prompt": "p", "text": "x"}],
            "2 ids are answered in one file only: .*b.jsonl has no response to '1', but .*a.jsonl has",
        ),
    ],
)
def test_responses_that_do_not_fit(a: list[Any], b: list[Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        read_pairs(write(tmp_path / "a.jsonl", a), write(tmp_path / "b.jsonl", b))


def test_broken_files_of_responses(tmp_path: Path) -> None:
    good = write(tmp_path / "b.jsonl", [{"prompt": "p", "text": "x"}])
    for raw, message in (
        (b'{"prompt": "p", "text": "\xff"}\n', "is not UTF-8: byte 0xff at offset 25"),
        (b"{not json\n", "is not JSON"),
        (b'[{"prompt": "p"', "is not JSON"),
        (b"[3]", "entry 1 is not a JSON object"),
        (b"", "holds no response"),
    ):
        bad = tmp_path / "a.jsonl"
        bad.write_bytes(raw)
        with pytest.raises(UserError, match=message):
            read_pairs(bad, good)
    with pytest.raises(UserError, match="does not exist"):
        read_pairs(tmp_path / "absent.jsonl", good)


@pytest.mark.parametrize(("wins", "n"), [(0, 5), (5, 10), (63, 100), (12, 12)])
def test_the_interval_is_wilsons(wins: int, n: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    expected = stats.binomtest(wins, n).proportion_ci(0.95, method="wilson")
    assert interval(wins / n, n) == pytest.approx((expected.low, expected.high), abs=1e-12)
