import json
from pathlib import Path

import pytest

from fallow.cli.main import main

HYPOTHESES = "the cat sat on the mat .\n\na dog ran far away .\n"
REFERENCES = ("the cat sat on a mat .\nit is late .\na dog ran away .\n", "a cat sat .\n\n\n")


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    (tmp_path / "h.txt").write_text(HYPOTHESES)
    for number, text in enumerate(REFERENCES):
        (tmp_path / f"r{number}.txt").write_text(text)
    return ["--hypotheses", str(tmp_path / "h.txt"), "--references", str(tmp_path / "r0.txt"), str(tmp_path / "r1.txt")]


@pytest.mark.parametrize("profile", ["e2e", "webnlg2017", "webnlg2020", "dart"])
def test_json_names_profile_variants_and_what_is_absent(
    files: list[str], profile: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", "--profile", profile, *files, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["profile"] == profile
    keys = {"bleu", "nist", "rouge_l", "cider", "ter", "chrf"}
    assert keys <= found["scores"].keys() == found["variants"].keys() == found["scales"].keys()
    assert {key: found[key] for key in found["scores"]} == found["scores"]
    assert "Java" in found["absent"]["meteor"] and "meteor" not in found
    assert (found["num_hypotheses"], found["num_references"], found["num_empty"]) == (3, 4, 1)


def test_text_names_profile_and_variants(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", "--profile", "webnlg2017", *files]) == 0
    out = capsys.readouterr().out
    assert "profile webnlg2017" in out and "multi-bleu.perl -lc" in out and "tercom" in out
    assert "1 of them empty" in out and "absent: METEOR needs Java" in out


def test_segments_and_only(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "segments.jsonl"
    only = ["--metrics", "ter", "bleu", "--segments", str(path), "--json"]
    assert main(["score", "--profile", "dart", *files, *only]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["scores"]) == {"ter", "bleu"} and "segments" not in found
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["text"] for row in rows] == HYPOTHESES.splitlines()
    assert [row["ter"] for row in rows] == [pytest.approx(1 / 5.5), 1.0, pytest.approx(1 / 5)]


def test_mistakes_are_one_line(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r1.txt").write_text("only one\n")
    for arguments, words in (
        (["--profile", "dart", *files], "they must agree"),
        (["--profile", "dart", *files[:4], "--metrics", "meteor"], "--metrics names meteor, which is absent"),
        (["--profile", "darts", *files], "dart"),
        (["--profile", "dart", *files, "--metrics", "blue"], 'Did you mean "bleu"'),
        (["--profile", "dart", *files, "--segments", str(tmp_path)], "is a folder"),
    ):
        assert main(["score", *arguments]) == 2
        error = capsys.readouterr().err
        assert words in error and len(error.strip().splitlines()) == 1, error
