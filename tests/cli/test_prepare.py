import json
from pathlib import Path

import pytest

from fallow.cli.main import main
from tests.data.helpers import story


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    rows = [json.dumps({"text": story(i)}) for i in range(60)]
    (tmp_path / "corpus.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return tmp_path


def prepare(corpus: Path, *more: str) -> int:
    return main(["prepare", str(corpus / "corpus.jsonl"), "--output", str(corpus / "out"), *more])


def test_prepare_prints_totals_and_can_be_repeated(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare(corpus, "--vocab-size", "300", "--valid-share", "0.2") == 0
    printed = capsys.readouterr()
    assert "corpus-train: " in printed.out
    assert "corpus-valid: " in printed.out
    assert "documents" in printed.out
    times = {path: path.stat().st_mtime_ns for path in (corpus / "out").rglob("*") if path.is_file()}
    assert prepare(corpus, "--vocab-size", "300", "--valid-share", "0.2") == 0
    assert times == {path: path.stat().st_mtime_ns for path in times}


def test_json_alone_is_on_standard_output(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare(corpus, "--vocab-size", "300", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["tokenizer"]["vocab_size"] == 300
    assert facts["sources"]["corpus-train"]["documents"] == 60
    index = json.loads((corpus / "out" / "corpus-train" / "index.json").read_text(encoding="utf-8"))
    assert facts["sources"]["corpus-train"]["tokens"] == sum(shard["num_tokens"] for shard in index["shards"])


def test_a_given_tokenizer_is_kept_beside_the_shards(corpus: Path) -> None:
    assert prepare(corpus, "--vocab-size", "300") == 0
    tokenizer = str(corpus / "out" / "tokenizer")
    other = ["prepare", str(corpus / "corpus.jsonl"), "--output", str(corpus / "two"), "--tokenizer", tokenizer]
    assert main(other) == 0
    first, second = (corpus / name / "corpus-train" / "shard-00000.bin" for name in ("out", "two"))
    assert first.read_bytes() == second.read_bytes()
    assert (corpus / "two" / "tokenizer" / "tokenizer.json").exists()


def test_a_damaged_shard_is_made_again(corpus: Path) -> None:
    assert prepare(corpus, "--vocab-size", "300") == 0
    shard = corpus / "out" / "corpus-train" / "shard-00000.bin"
    good = shard.read_bytes()
    shard.write_bytes(good[:100])
    assert prepare(corpus, "--vocab-size", "300") == 0
    assert shard.read_bytes() == good


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "tokenizer needs path or vocab_size, but neither is given"),
        (["--vocab-size", "300", "--field", "txt"], "has no field txt. Did you mean text?"),
        (["--vocab-size", "9000"], "only gives"),
        (["--vocab-size", "300", "--valid-share", "2"], "valid_share is 2.0"),
        (["--vocab-siz", "300"], "--vocab-siz"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(
    corpus: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    assert prepare(corpus, *flags) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("fallow prepare: ")
    assert message in printed.err


def test_no_source(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["prepare", "--output", str(tmp_path / "out"), "--vocab-size", "300"]) == 2
    assert "name at least one source" in capsys.readouterr().err
