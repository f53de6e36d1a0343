"""Real outputs with their official scores, where the development data is at hand."""

import json

import pytest

from tests.metrics.official import Official, blocks, folder, lines, streams


@pytest.fixture(scope="session")
def tgen() -> Official:
    path = folder("e2e_tgen")
    scores = json.loads((path / "scores.json").read_text())
    return Official(lines(path / "outputs.txt"), blocks(path / "references.txt"), scores, path)


@pytest.fixture(scope="session")
def example10() -> Official:
    path = folder("e2e_example10")
    scores = json.loads((path / "scores.json").read_text())
    return Official(lines(path / "baseline-output.txt"), blocks(path / "devel-conc.txt"), scores, path)


@pytest.fixture(scope="session")
def melbourne() -> dict[str, Official]:
    """By track."""
    path = folder("webnlg2017_melbourne")
    scores = json.loads((path / "scores.json").read_text())
    return {
        track: Official(lines(path / track / "hypothesis.txt"), streams(path / track), scores, path)
        for track in ("all", "seen", "unseen")
    }


@pytest.fixture(scope="session")
def bart() -> Official:
    path = folder("dart_bart-large")
    scores = json.loads((path / "scores.json").read_text())
    return Official(lines(path / "hypothesis.txt"), streams(path), scores, path)
