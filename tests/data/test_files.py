import gzip
import json
import os
import random
import sys
from pathlib import Path

import pytest

from fallow.data.files import read_file
from fallow.data.settings import TextSource
from fallow.data.sources import read_source, source_fingerprint
from fallow.errors import UserError


def texts(path: Path, field: str = "text") -> list[str]:
    return [document.text for document in read_source(TextSource(path=str(path), field=field))]


def test_every_form_gives_the_same_documents(tmp_path: Path) -> None:
    rows = ["first", "", "second \u00e9"]
    lines = "".join(json.dumps({"text": row}) + "\n" for row in rows)
    (tmp_path / "a.jsonl").write_text(lines, encoding="utf-8")
    for name in ("b.jsonl.gz", "b.json.gz"):
        (tmp_path / name).write_bytes(gzip.compress(lines.encode(), mtime=0))
    parquet = pytest.importorskip("pyarrow.parquet")
    table = sys.modules["pyarrow"].table({"text": rows, "other": [1, 2, 3]})
    parquet.write_table(table, tmp_path / "c.parquet")
    expected = ["first", "second \u00e9"]
    assert [texts(tmp_path / name) for name in ("a.jsonl", "b.jsonl.gz", "b.json.gz", "c.parquet")] == [expected] * 4
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "d.txt").write_text("third", encoding="utf-8")
    (tmp_path / "notes.md").write_text("left out", encoding="utf-8")
    assert texts(tmp_path) == expected * 4 + ["third"]


def test_a_long_text_is_cut_at_blank_lines(tmp_path: Path) -> None:
    paragraphs = [f"paragraph {i} " * 800 + "\n\n" for i in range(30)]
    path = tmp_path / "long.txt"
    path.write_text("".join(paragraphs), encoding="utf-8")
    pieces = texts(path)
    assert "".join(pieces) == "".join(paragraphs)
    assert 4 < len(pieces) < 10
    assert all(piece.endswith("\n\n") for piece in pieces)
    (tmp_path / "packed.txt.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    assert texts(tmp_path / "packed.txt.gz") == pieces


def test_another_field(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"content": "x"}\n', encoding="utf-8")
    assert texts(path, field="content") == ["x"]
    with pytest.raises(UserError, match=r"a\.jsonl:1 has no field text\. It has: content"):
        texts(path)
    with pytest.raises(UserError, match="Did you mean content"):
        texts(path, field="contents")


@pytest.mark.parametrize(
    ("name", "raw", "message"),
    [
        ("a.txt", b"", r"a\.txt is empty \(0 bytes\)"),
        ("a.txt", b"abc\nd\xfff", r"a\.txt is not UTF-8: byte 0xff at offset 5\."),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\xe9"}\n', r"a\.jsonl is not UTF-8: byte 0xe9 at offset 24\."),
        ("a.jsonl.gz", gzip.compress(b'{"text": "\xe9"}\n', mtime=0), "byte 0xe9 at offset 10 of its unpacked text"),
        ("a.jsonl.gz", gzip.compress(b"x" * 9999, mtime=0)[:-12], "is damaged after byte"),
        ("a.jsonl.gz", b"plain", "is damaged after byte 0"),
        ("a.jsonl", b'{"text": "a"}\n{"text"\n', r"a\.jsonl:2 is not JSON"),
        ("a.jsonl", b"[1]\n", r"a\.jsonl:1 is not a JSON object, but a list"),
        ("a.jsonl", b'{"text": 3}\n', "has a number in text"),
        ("a.jsonl", b'{"text": null}\n', r"a\.jsonl:1 has null in text"),
        ("a.jsonl", b'{"text": "a", "text": "b"}\n', r'a\.jsonl:1 has the key "text" twice'),
        ("a.jsonl", b'{"n": ' + b"7" * 5000 + b', "text": "a"}\n', r"a\.jsonl:1 has a number of thousands of digits"),
        ("a.jsonl", b'{"text": "a"}\n' + b"[" * 100_000 + b"\n", r"a\.jsonl:2 has lists or objects in each other"),
        ("a.jsonl", b'{"text": "' + b"x" * (16 << 20) + b'"}', r"a\.jsonl:1 is longer than 16 MB"),
        ("a.txt", b"a\n" + b"x" * (17 << 20), r"a\.txt:2 is longer than 16 MB"),
        ("a.txt", b"abc\n" * 100_000 + b"de\0f\n", r"a\.txt:100001 holds the character NUL"),
        ("a.txt", b"abc\n" * 100_000 + b"d\xff\n", r"byte 0xff at offset 400001\."),
        ("a.txt", b"\n \n" * 100_000, "holds no text"),
        ("a.txt.gz", gzip.compress(b"\n" * 10**8, 9, mtime=0), "unpacks to more than 200 times its size"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "' + b"x" * 10**8, 9, mtime=0), "longer than 16 MB|200 times"),
        ("a.jsonl", b'{"text": ""}\n', "holds no text"),
        (
            "a.jsonl",
            b'{"text": "\\ud83d\\ude00"}\n{"text": "a \\uD83D"}\n',
            r"a\.jsonl:2 holds half of a surrogate pair",
        ),
        ("a.parquet", b"not parquet", "is not a Parquet file"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, raw: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(UserError, match=message):
        list(read_file(tmp_path / name))


def test_a_text_is_cut_as_by_lines(tmp_path: Path) -> None:
    """Pieces are found in blocks; the rule is told by lines."""
    rng = random.Random(3)
    words = ["\n", " \n", "word ", "\u00e9\u00e8 ", "x" * 300, "\r\n", "line\n" * 40, "y" * 150_000, "\u2028", "\x85\n"]
    for number in range(6):
        text = "".join(rng.choices(words, weights=[3, 2, 9, 5, 9, 2, 5, 0.1, 1, 1], k=20_000))
        path = tmp_path / f"{number}.txt"
        path.write_bytes(text.encode())
        pieces, lines, size = [], [], 0
        for line in [part + "\n" for part in text.split("\n")]:
            lines.append(line)
            size += len(line)
            if size >= 1 << 17 or (size >= 1 << 16 and line.isspace()):
                pieces.append("".join(lines))
                lines, size = [], 0
        expected = "".join([*pieces, *lines]).removesuffix("\n")
        assert expected == text
        found = texts(path)
        assert "".join(found) == text and found[:-1] == pieces[: len(found) - 1] and len(found) > 5


def test_a_pipe_is_refused_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(UserError, match="is no regular file"):
        texts(tmp_path / "a.txt")


def test_bad_paths(tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("x", encoding="utf-8")
    (tmp_path / "corpus.pdf").write_text("x", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    for path, message in [
        ("corpuss.txt", r"Did you mean .*corpus\.txt"),
        ("corpus.pdf", r"ends in \.pdf"),
        ("empty", "holds no file ending in"),
    ]:
        with pytest.raises(UserError, match=message):
            texts(tmp_path / path)


def test_bad_parquet(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    arrow = sys.modules["pyarrow"]
    path = tmp_path / "a.parquet"
    halved = arrow.array([b"good", b"caf\xe9"]).cast(arrow.string(), safe=False)
    twice = arrow.Table.from_arrays([arrow.array(["a"]), arrow.array(["b"])], names=["text", "text"])
    bomb = arrow.table({"text": ["x" * (100 << 20)]})
    for table, message in (
        (arrow.table({"text": halved}), r"a\.parquet:2 holds text that is not UTF-8"),
        (twice, "has 2 columns named text"),
        (arrow.table({"text": [1, 2]}), "has int64 in column text"),
        (arrow.table({"text": ["x" * (17 << 20)]}), r"a\.parquet:1 is longer than 16 MB"),
        (bomb, "unpacks to more than 200 times its size in column text"),
    ):
        parquet.write_table(table, path, compression="zstd")
        with pytest.raises(UserError, match=message):
            list(read_file(path))
    parquet.write_table(arrow.table({"text": [f"text {i}" for i in range(9000)]}), path, compression="gzip")
    raw = bytearray(path.read_bytes())
    raw[3000:3200] = bytes(200)
    path.write_bytes(raw)
    with pytest.raises(UserError, match=r"a\.parquet is damaged after row \d+ \(.*Get the file again"):
        list(read_file(path))


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "a.parquet").write_bytes(b"x")
    with pytest.raises(UserError, match=r"pip install 'fallow\[data\]'"):
        texts(tmp_path / "a.parquet")


def test_the_fingerprint_follows_the_content(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("x" * 200_000, encoding="utf-8")
    source = TextSource(path=str(path))
    before = source_fingerprint(source)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "a.txt").write_bytes(path.read_bytes())
    assert source_fingerprint(TextSource(path=str(tmp_path / "b" / "a.txt"), weight=2, domain="moved")) == before
    for place in (0, 70_000, 130_000, 199_999):  # wherever it changes
        path.write_text("x" * place + "y" + "x" * (199_999 - place), encoding="utf-8")
        assert source_fingerprint(source) != before
    assert source_fingerprint(source, "train", 0.1) != source_fingerprint(source)
