"""A sample of the bad data files: `make attack` has the whole."""

import itertools
from collections import Counter
from pathlib import Path

from tests.attack.cases import spread
from tests.attack.inputs_data import Case, cases, outcome_of, well_formed


def test_no_data_file_ends_in_a_traceback_or_a_hang(tmp_path: Path) -> None:
    every = list(itertools.islice(cases(1), 4000))
    chosen = [case for case in every if case.refused] + spread([case for case in every if not case.refused], 900)
    found: Counter[str] = Counter()
    for case in chosen:
        outcome, said = outcome_of(case, tmp_path)
        found[outcome] += 1
        assert outcome in ("refused", "accepted"), (case.reader, case.path, case.name, outcome, said)
        assert outcome == "refused" or not case.refused, (case.reader, case.path, case.name, "accepted")
    assert min(found["refused"], found["accepted"]) > 100, found


def test_well_formed_files_are_accepted(tmp_path: Path) -> None:
    for case in well_formed():
        assert outcome_of(case, tmp_path) == ("accepted", ""), case.path


def test_time_and_memory_are_bounded(tmp_path: Path) -> None:
    """So that the test above can fail."""
    long = Case(name="long", path="a.txt", content=b"a line\n" * 4_000_000, reader="text")
    assert outcome_of(long, tmp_path, seconds=0.001)[0] == "hang"
    whole = Case(name="whole", path="d.json", content=b"[" + b"[]," * 9_000_000 + b"[]]", reader="dart")
    outcome, said = outcome_of(whole, tmp_path, megabytes=300)
    assert (outcome, "memory is used up" in said) == ("refused", True) or outcome == "traceback", said
