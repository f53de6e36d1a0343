"""Equal to the official scripts on real outputs of four systems."""

import csv

import pytest

from fallow.evaluate.metrics import score
from tests.evaluate.metrics.official import Official

COMPUTED = "computed here with official script"


def segment_file(official: Official) -> dict[str, list[float]]:
    with (official.folder / "segment_scores.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return {key: [float(row[key]) for row in rows] for key in rows[0] if key not in ("src", "sys_out")}


def test_e2e_bleu_and_nist(tgen: Official, example10: Official) -> None:
    for official in (tgen, example10):
        found = score("e2e", official.hypotheses, official.references, only=["bleu", "nist"]).scores
        known = official.scores[COMPUTED]
        assert found["bleu"] == pytest.approx(known["BLEU"], abs=5.1e-5)  # the script prints four decimals
        assert found["nist"] == pytest.approx(known["NIST"], abs=5.1e-5)


def test_e2e_python_version(tgen: Official, example10: Official) -> None:
    for official, error in ((tgen, 1e-9), (example10, 5.1e-5)):
        only = ["bleu_pymteval", "nist_pymteval"]
        found = score("e2e", official.hypotheses, official.references, only=only).scores
        known = official.scores[COMPUTED]
        assert found["bleu_pymteval"] == pytest.approx(known["BLEU_pymteval"], abs=error)
        assert found["nist_pymteval"] == pytest.approx(known["NIST_pymteval"], abs=error)


@pytest.mark.parametrize(("key", "column"), [("bleu", "BLEU"), ("sent_bleu", "sentBLEU"), ("nist", "NIST")])
def test_e2e_segments(tgen: Official, example10: Official, key: str, column: str) -> None:
    for official in (tgen, example10):
        asked = ["nist"] if key == "nist" else ["bleu"]
        found = score("e2e", official.hypotheses, official.references, only=asked, segments=True).segments[key]
        assert list(found) == pytest.approx(segment_file(official)[column], abs=5.1e-5)


@pytest.mark.parametrize("track", ["all", "seen", "unseen"])
def test_webnlg2017_bleu(melbourne: dict[str, Official], track: str) -> None:
    official = melbourne[track]
    found = score("webnlg2017", official.hypotheses, official.references, only=["bleu"]).scores["bleu"]
    assert round(found, 2) == official.scores["official scripts"][track]["BLEU"]


def test_webnlg2020_bleu(melbourne: dict[str, Official], bart: Official) -> None:
    for official, part in ((melbourne["all"], "all"), (bart, "all 5097 (without ter)")):
        found = score("webnlg2020", official.hypotheses, official.references, only=["bleu"]).scores["bleu"]
        assert round(found, 2) == official.scores["GenerationEval"][part]["bleu"]


def test_dart_bleu(bart: Official) -> None:
    found = score("dart", bart.hypotheses, bart.references, only=["bleu"]).scores["bleu"]
    assert round(found, 2) == bart.scores[COMPUTED]["BLEU"]
