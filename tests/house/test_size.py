"""One noun a file: the median below 200 lines, none above 600."""

import statistics

from tests.house.source import ROOT, SOURCE, python_files


def num_lines(path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_no_file_is_long() -> None:
    long = {str(p.relative_to(ROOT)): num_lines(p) for p in python_files(ROOT / "src") + python_files(ROOT / "tests")}
    long = {name: lines for name, lines in long.items() if lines > 600}
    assert not long, f"split these: {long}"


def test_the_usual_file_is_short() -> None:
    assert statistics.median(num_lines(path) for path in python_files(SOURCE)) < 200
