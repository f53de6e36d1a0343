import gzip
from pathlib import Path

import pytest

from fallow.errors import UserError
from fallow.metrics.corpus import read


def write(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_file_for_each_reference(tmp_path: Path) -> None:
    hypotheses = write(tmp_path, "h", "a b\n\nc\n")
    references = [write(tmp_path, "r0", "a\nb\r\nc\u2028d\n"), write(tmp_path, "r1", "x\n\n\n")]
    texts, groups = read(hypotheses, references)
    assert texts == ["a b", "", "c"]
    assert groups == [["a", "x"], ["b", ""], ["c\u2028d", ""]]


def test_files_of_blank_lines_and_packed_ones(tmp_path: Path) -> None:
    """An empty hypothesis is scored, and nobody need have a third reference."""
    references = [write(tmp_path, "r0.gz", gzip.compress(b"a\nb\n", mtime=0)), write(tmp_path, "r1", "\n\n")]
    assert read(write(tmp_path, "h", "\n\n"), references) == (["", ""], [["a", ""], ["b", ""]])


@pytest.mark.parametrize("end", ["", "\n", "\n\n"])
def test_blocks(tmp_path: Path, end: str) -> None:
    references = write(tmp_path, "r", "a\nb\n\nc\n \nd\ne" + end)
    assert read(write(tmp_path, "h", "1\n2\n3\n"), [references])[1] == [["a", "b"], ["c"], ["d", "e"]]


def test_one_file_of_a_reference_a_line(tmp_path: Path) -> None:
    assert read(write(tmp_path, "h", "1\n2"), [write(tmp_path, "r", "a\nb\n")])[1] == [["a"], ["b"]]


def test_tables_are_joined_by_source(tmp_path: Path) -> None:
    hypotheses = write(tmp_path, "h.tsv", "\ufeffMR\toutput\nname[B]\tfrom \u014120\nname[A]\ttwo\n")
    references = write(tmp_path, "r.csv", 'mr,ref\nname[A],"one, two"\nname[B],three\nname[A],four\n')
    texts, groups = read(hypotheses, [references])
    assert texts == ["from \u00a320", "two"]
    assert groups == [["three"], ["one, two", "four"]]


def test_without_sources_neighbours_in_a_table_are_one_input(tmp_path: Path) -> None:
    references = write(tmp_path, "r.csv", "mr,ref\nA,one\nA,two\nB,three\nA,four\n")
    assert read(write(tmp_path, "h", "1\n2\n3\n"), [references])[1] == [["one", "two"], ["three"], ["four"]]


@pytest.mark.parametrize(
    ("hypotheses", "references", "words"),
    [
        ("a\nb\n", ["a\n", "b\n"], ["has 2 lines", "r0 has 1"]),
        ("a\nb\nc\n", ["a\nb\n\nc\n"], ["3 hypotheses", "4 lines and 2 blocks"]),
        ("", ["a\n"], ["h is empty"]),
        ("a\n", [""], ["r0 is empty"]),
        (b"a\nb\xff\n", ["a\nb\n"], ["h is not UTF-8", "line 2", "0xff"]),
        ("a\rb\rc\r", ["a\n"], ["h ends its lines in CR alone"]),
        ("a\0b\0", ["a\n"], ["h ends its lines in NUL alone"]),
        ('{"text": "a"}\n{"text": "b"}\n', ["a\nb\n"], ["h holds JSON Lines"]),
        (gzip.compress(b"a\n", mtime=0), ["a\n"], ["h is packed by gzip"]),
        ("a\nb\n", ["a\nb\n\n", "a\nb\n"], ["has 2 lines", "r0 has 3", "The last line of it is empty"]),
        ("a\n", ["a\n\n\n", "a\n"], ["has 1 line,", "Its last 2 lines are empty"]),
        ("a\nb\n", ["a\nb\n", "a\n"], ["r1 has 1", "that line needs a line feed of its own"]),
        ("a\n", ["a\n".encode("utf-16")], ["r0 is not UTF-8", "line 1"]),
    ],
)
def test_mistakes(tmp_path: Path, hypotheses: str | bytes, references: list[str | bytes], words: list[str]) -> None:
    paths = [write(tmp_path, f"r{n}", text) for n, text in enumerate(references)]
    with pytest.raises(UserError) as error:
        read(write(tmp_path, "h", hypotheses), paths)
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("other,mr,ref\nA,one\n", r"r\.csv:2 has 2 columns, but the first row has 3"),
        ("mr,ref\nA,one\n\nA,two,three\n", r"r\.csv:4 has 3 columns, but the first row has 2"),
        ('mr,ref\nA,"one\nA,two\n', r"r\.csv:2 opens a quotation mark that its line does not close"),
        ("mr,ref\nA,one\rtwo\n", r"r\.csv:2 is no row of a table"),
        ("mr,ref\n", "no reference for"),
        ("mr,text,other\nA,one,x\n", "columns of"),
        ("mr,ref\nB,one\n", 'no reference for "A"'),
    ],
)
def test_mistakes_in_tables(tmp_path: Path, text: str, words: str) -> None:
    hypotheses = write(tmp_path, "h.tsv", "mr\toutput\nA\tone\n")
    with pytest.raises(UserError, match=words):
        read(hypotheses, [write(tmp_path, "r.csv", text)])


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no file"):
        read(tmp_path / "h", [tmp_path / "r"])
    with pytest.raises(UserError, match="is a folder"):
        read(tmp_path, [tmp_path / "r"])
