import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fallow.data.settings import TextSource
from fallow.data.sources import read_source
from fallow.errors import UserError

STDLIB = TextSource(path="embedded:stdlib")


def write(path: Path, rows: list[str]) -> TextSource:
    path.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows), encoding="utf-8")
    return TextSource(path=str(path))


def test_the_standard_library_without_tests_and_tables() -> None:
    documents = {document.name: document for document in read_source(STDLIB)}
    assert "import threading" in documents["concurrent.futures.thread"].text
    assert documents["concurrent.futures.thread"].domain == "concurrent"
    assert documents["argparse"].domain == "modules"
    assert documents["json"].domain == "json"
    assert not [name for name in documents if "test" in name.split(".") or "idle_test" in name.split(".")]
    assert "encodings.cp1252" not in documents
    assert "pydoc_data.topics" not in documents
    assert list(documents) == sorted(documents)
    assert sum(len(document.text) for document in documents.values()) > 5_000_000


def test_one_package_and_the_reference() -> None:
    some = list(read_source(TextSource(path="embedded:stdlib/json")))
    assert {document.domain for document in some} == {"json"}
    topics = list(read_source(TextSource(path="embedded:reference")))
    assert len(topics) > 50
    with pytest.raises(UserError, match='Did you mean "asyncio"'):
        list(read_source(TextSource(path="embedded:stdlib/asyncoi")))


def test_held_out_modules_are_chosen_by_name() -> None:
    train = {document.name for document in read_source(STDLIB, "train", 0.1)}
    valid = {document.name for document in read_source(STDLIB, "valid", 0.1)}
    assert not train & valid
    assert train | valid == {document.name for document in read_source(STDLIB)}
    assert 0.05 < len(valid) / len(train | valid) < 0.15
    assert valid < {document.name for document in read_source(STDLIB, "valid", 0.2)}
    assert "dis" in valid  # fixed: the split is part of every published number


def test_copies_of_a_document_stay_on_one_side(tmp_path: Path) -> None:
    rows = [f"document {i}" for i in range(300)]
    source = write(tmp_path / "a.jsonl", rows + rows[::-1])
    train = [document.text for document in read_source(source, "train", 0.2)]
    valid = [document.text for document in read_source(source, "valid", 0.2)]
    assert not set(train) & set(valid)
    assert len(train) + len(valid) == 600
    assert 60 < len(valid) < 180


def test_a_selection_is_spread_and_of_the_size_asked_for(tmp_path: Path) -> None:
    rows = [f"{i:04} " + "x" * (50 + 37 * i % 500) for i in range(2000)]
    whole = write(tmp_path / "a.jsonl", rows)
    part = TextSource(path=whole.path, max_megabytes=0.1)
    taken = [document.text for document in read_source(part)]
    assert taken == [document.text for document in read_source(part)]
    assert abs(sum(map(len, taken)) - 100_000) < 1000
    numbers = [int(text[:4]) for text in taken]
    assert numbers == sorted(numbers)
    quarters = [sum(500 * q <= n < 500 * (q + 1) for n in numbers) / len(numbers) for q in range(4)]
    assert max(quarters) - min(quarters) < 0.05
    assert len(list(read_source(TextSource(path=whole.path, max_megabytes=99)))) == 2000


def test_the_hub_is_asked_only_when_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    class Rows(list[dict[str, str]]):
        column_names = ("text",)

    def load_dataset(*names: str, split: str) -> Rows:
        asked.append((*names, split))
        return Rows([{"text": "one"}, {"text": ""}, {"text": "two"}])

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    texts = [d.text for d in read_source(TextSource(path="hub:owner/name/en:validation"))]
    assert texts == ["one", "two"]
    assert asked == [("owner/name", "en", "validation")]
    with pytest.raises(UserError, match=r"has no column body\. It has: text"):
        list(read_source(TextSource(path="hub:owner/name", field="body")))


def test_hub_mistakes(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: str, split: str) -> None:
        raise ConnectionError("no route\nmore")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=unreachable))
    with pytest.raises(UserError, match="could not be loaded: no route Check the name and the network"):
        list(read_source(TextSource(path="hub:owner/name")))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"pip install 'fallow\[data\]'"):
        list(read_source(TextSource(path="hub:owner/name")))
