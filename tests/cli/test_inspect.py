import json
from pathlib import Path

import pytest

from fallow.cli.main import main
from tests.data.helpers import story


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    rows = [json.dumps({"text": story(i, 20)}) for i in range(80)]
    (tmp_path / "corpus.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    assert main(["prepare", str(tmp_path / "corpus.jsonl"), "--vocab-size", "300", "--output", str(tmp_path)]) == 0
    return tmp_path / "corpus-train"


def pairs_file(folder: Path) -> str:
    path = folder / "pairs.jsonl"
    path.write_text('{"context": "alpha beta", "target": "gamma delta"}\n', encoding="utf-8")
    return str(path)


def test_packed_text_shows_where_documents_end(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["inspect", "data", str(shards), "--context", "200", "--num", "2"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("example ") == 2
    first = story(0, 20)
    assert first[1:] + "[end]\n" + story(1, 20)[:10] in printed.replace("<<", "").replace(">>", "")


def test_pairs_show_what_the_loss_is_taken_on(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    tokenizer = str(shards.parent / "tokenizer")
    call = ["inspect", "data", pairs_file(shards.parent), "--format", "jsonl", "--tokenizer", tokenizer]
    assert main(call) == 0
    assert "<<alpha beta>><<[end]>> gamma delta[end]" in capsys.readouterr().out
    assert main([*call, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    (example,) = facts["examples"]
    assert [part["text"] for part in example["stretches"] if part["loss"]] == [" gamma delta", "<|endoftext|>"]
    assert [part["loss"] for part in example["stretches"]] == [False, False, True, True]


def test_examples_from_a_place(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["inspect", "data", str(shards), "--context", "16", "--start", "5", "--num", "2", "--json"]) == 0
    assert [example["index"] for example in json.loads(capsys.readouterr().out)["examples"]] == [5, 6]


def test_mistakes_are_one_line_and_exit_2(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    for flags, message in [
        ([], "name a folder of token shards"),
        ([str(shards.parent)], f"Name one: {shards}"),
        ([pairs_file(shards.parent)], "is a file. For pairs write --format"),
        ([pairs_file(shards.parent), "--format", "jsonl"], "pairs need --tokenizer"),
        ([str(shards), "--num", "0"], "at least 1"),
        ([str(shards), "--start", "1000000"], "--start is 1000000"),
        ([str(shards), "--overflow", "cut"], "has no effect on packed text"),
        ([str(shards / "absent")], "holds no token shards"),
    ]:
        assert main(["inspect", "data", *flags]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.count("\n") == 1
        assert message in " ".join(printed.err.split())
    (shards / "shard-00000.bin").write_bytes(b"")
    assert main(["inspect", "data", str(shards)]) == 2
    assert "is damaged" in capsys.readouterr().err
