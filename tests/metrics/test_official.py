"""Equal to the official scripts on real outputs of four systems."""

import csv

import pytest

from fallow.metrics import score
from tests.metrics.official import Official, needs_meteor

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


def test_webnlg2020_bleu_of_nltk(melbourne: dict[str, Official]) -> None:
    official = melbourne["all"]
    found = score("webnlg2020", official.hypotheses, official.references, only=["bleu_nltk", "chrf"]).scores
    known = official.scores["GenerationEval"]["all"]
    assert found["bleu_nltk"] == pytest.approx(known["bleu_nltk"], abs=1e-9)
    assert found["chrf"] == pytest.approx(known["chrf++"], abs=1e-9)


def test_e2e_rouge_l_and_cider(tgen: Official, example10: Official) -> None:
    for official, error in ((tgen, 1e-9), (example10, 5.1e-5)):
        found = score("e2e", official.hypotheses, official.references, only=["rouge_l", "cider"], segments=True)
        known, parts = official.scores[COMPUTED], segment_file(official)
        assert found.scores["rouge_l"] == pytest.approx(known["ROUGE_L"], abs=error)
        assert found.scores["cider"] == pytest.approx(known["CIDEr"], abs=error)
        assert list(found.segments["rouge_l"]) == pytest.approx(parts["ROUGE_L"], abs=5.1e-5)
        assert list(found.segments["cider"]) == pytest.approx(parts["CIDEr"], abs=5.1e-5)


def test_webnlg2017_ter(melbourne: dict[str, Official]) -> None:
    official = melbourne["unseen"]
    found = score("webnlg2017", official.hypotheses, official.references, only=["ter"]).scores["ter"]
    assert found == pytest.approx(official.scores["official scripts"]["unseen"]["TER"], abs=1e-9)


def test_webnlg2017_edits_of_segments(melbourne: dict[str, Official]) -> None:
    official = melbourne["all"]
    rows = [
        line.split("|")
        for line in (official.folder / "segment_ter_all.txt").read_text().splitlines()
        if line.startswith("id")
    ][:300]
    found = score("webnlg2017", official.hypotheses[:300], official.references[:300], only=["ter"], segments=True)
    assert list(found.segments["ter"]) == pytest.approx([float(row[-1]) / 100 for row in rows], abs=1e-5)


def test_webnlg2020_mean_of_minima(bart: Official) -> None:
    found = score("webnlg2020", bart.hypotheses[:500], bart.references[:500], only=["ter_webnlg2020"]).scores
    known = bart.scores["GenerationEval"]["first 500 lines"]
    assert found["ter_webnlg2020"] == pytest.approx(known["ter"], abs=1e-9)


@needs_meteor
def test_meteor_of_the_caption_evaluation(example10: Official, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME")
    found = score("e2e", example10.hypotheses, example10.references, only=["meteor"], segments=True)
    assert found.scores["meteor"] == pytest.approx(example10.scores[COMPUTED]["METEOR"], abs=5.1e-5)
    assert list(found.segments["meteor"]) == pytest.approx(segment_file(example10)["METEOR"], abs=5.1e-5)


@needs_meteor
def test_meteor_from_files(melbourne: dict[str, Official], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME")
    official = melbourne["all"]
    rows = (official.folder / "segment_meteor_all.txt").read_text().splitlines()
    known = [float(row.split()[-1]) for row in rows if row.startswith("Segment")][:200]
    found = score("webnlg2017", official.hypotheses[:200], official.references[:200], only=["meteor"], segments=True)
    assert list(found.segments["meteor"]) == pytest.approx(known, abs=1e-9)
