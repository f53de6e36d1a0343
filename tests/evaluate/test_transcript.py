import json
from pathlib import Path

import pytest

from fallow.errors import UserError
from fallow.evaluate.transcript import Generated, Transcript

MADE_BY = {"weights": "abc", "num_beams": 4}


def one(number: int, text: str = "") -> tuple[list[int], str, Generated]:
    return [number, 7], f"context {number}", Generated(text or f"text {number}\nof two lines", 5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Three texts, written in two calls."""
    file = tmp_path / "sub" / "texts.jsonl"
    texts = Transcript(file, MADE_BY)
    texts.add([one(1), one(2, 'quotes " and \u2028 and \udc80')])
    texts.add([one(3)])
    return file


def test_texts_come_back(path: Path) -> None:
    texts = Transcript(path, MADE_BY)
    assert len(texts) == 3
    assert texts[[1, 7]] == Generated("text 1\nof two lines", 5)
    assert texts[[2, 7]].text == 'quotes " and \u2028 and \udc80'
    assert [7, 1] not in texts and [17] not in texts
    lines = path.read_bytes().splitlines()
    assert json.loads(lines[0]) == {"format": "fallow-texts", "version": 2, **MADE_BY}
    assert json.loads(lines[1])["context"] == "context 1"


def test_a_text_that_is_there_stays(path: Path) -> None:
    texts = Transcript(path, MADE_BY)
    before = path.read_bytes()
    texts.add([one(1, "another")])
    assert texts[[1, 7]].text == "text 1\nof two lines"
    assert path.read_bytes() == before


@pytest.mark.parametrize("cut", range(1, 150, 7))
def test_whatever_a_crash_cut_off_the_whole_lines_stay(path: Path, cut: int) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    texts = Transcript(path, MADE_BY)
    left = whole[:-cut].count(b"\n") - 1
    assert len(texts) == left
    texts.add([one(9)])
    again = Transcript(path, MADE_BY)
    assert len(again) == left + 1
    assert again[[9, 7]].text == "text 9\nof two lines"


@pytest.mark.parametrize("damage", [b"\x00" * 40 + b"\n", b'{"context": "c"}\n', b"[1]\n", b"\xff\xfe\n", b"\n"])
def test_a_damaged_line_and_what_follows_are_made_again(path: Path, damage: bytes) -> None:
    head, first, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(head + first + damage + b"".join(rest))
    texts = Transcript(path, MADE_BY)
    assert len(texts) == 1
    assert path.read_bytes() == head + first


@pytest.mark.parametrize("left", [0, 1, 20])
def test_a_crash_in_the_very_first_line(path: Path, left: int) -> None:
    path.write_bytes(path.read_bytes()[:left])
    texts = Transcript(path, MADE_BY)
    texts.add([one(1)])
    assert len(Transcript(path, MADE_BY)) == 1


def test_texts_of_something_else_are_refused_or_replaced(path: Path) -> None:
    other = {**MADE_BY, "num_beams": 10}
    with pytest.raises(UserError, match=r"texts of something else: num_beams is 4 there and 10 here\. Name another"):
        Transcript(path, other)
    assert len(Transcript(path, MADE_BY)) == 3
    texts = Transcript(path, other, replace=True)
    assert len(texts) == 0
    texts.add([one(4)])
    assert len(Transcript(path, other)) == 1


@pytest.mark.parametrize("content", [b"my notes\n", b'{"a": 1}\n', b"[]\n", b"\x93NUMPY"])
@pytest.mark.parametrize("replace", [False, True])
def test_somebodys_file_is_never_touched(tmp_path: Path, content: bytes, replace: bool) -> None:
    (tmp_path / "notes").write_bytes(content)
    with pytest.raises(UserError, match="holds something else than generated texts"):
        Transcript(tmp_path / "notes", MADE_BY, replace=replace)
    assert (tmp_path / "notes").read_bytes() == content


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        Transcript(tmp_path, MADE_BY)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        Transcript(tmp_path / "file" / "texts", MADE_BY).add([one(1)])


def test_sorted_at_the_end(path: Path) -> None:
    Transcript(path, MADE_BY).sort([[3, 7], [8, 8], [1, 7]])
    contexts = [json.loads(line).get("context") for line in path.read_bytes().splitlines()]
    assert contexts == [None, "context 3", "context 1", "context 2"]
    assert len(Transcript(path, MADE_BY)) == 3


def test_a_file_that_vanishes_between_two_texts_is_an_error(path: Path) -> None:
    texts = Transcript(path, MADE_BY)
    path.unlink()
    with pytest.raises(UserError, match=r"texts.jsonl was removed while"):
        texts.add([one(4)])
    assert not path.exists()
