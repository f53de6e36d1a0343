"""Records with checksums: what was changed is named, what has no record is taken as it is."""

from pathlib import Path

import pytest

from fallow import integrity
from fallow.errors import UserError
from fallow.files import write_json, write_sealed
from fallow.integrity import FORMAT, MODEL_RECORD, check_model, check_tokenizer, checksum


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_text(name)
    files = {path.name: checksum(path) for path in tmp_path.iterdir()}
    write_sealed(tmp_path / MODEL_RECORD, {"format": FORMAT, "files": files})
    return tmp_path


def test_a_good_folder_passes_and_one_without_record_too(folder: Path) -> None:
    check_model(folder)
    (folder / "notes.txt").write_text("mine")
    check_model(folder)
    (folder / "config.json").write_text("changed on purpose")
    with pytest.raises(UserError, match=f"config.json was changed or is damaged.*remove .*{MODEL_RECORD} to use"):
        check_model(folder)
    (folder / MODEL_RECORD).unlink()
    check_model(folder)


def test_a_tokenizer_has_nothing_to_do_with_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_text("other")
    check_tokenizer(folder)
    with pytest.raises(UserError, match="model.safetensors was changed"):
        check_model(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"tokenizer.json is missing"):
        check_tokenizer(folder)


def test_a_record_that_was_changed_or_is_older_is_refused(folder: Path) -> None:
    path = folder / MODEL_RECORD
    good = path.read_text()
    path.write_text(good.replace("config.json", "canfig.json"))
    with pytest.raises(UserError, match=f"{MODEL_RECORD} was changed or is damaged"):
        check_model(folder)
    write_json(path, {"stage": "pretrain"})
    with pytest.raises(UserError, match=r"is of format 1, but this fallow reads format 2. Restore it, or remove"):
        check_model(folder)


def test_a_file_is_read_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, read = tmp_path / "aside" / "a", []
    path.parent.mkdir()
    path.write_text("one")
    monkeypatch.setattr(integrity, "file_sha256", lambda found: read.append(found) or found.read_text())
    assert [checksum(path), checksum(path)] == ["one", "one"]
    path.parent.rename(tmp_path / "place")
    assert checksum(tmp_path / "place" / "a") == "one"
    assert len(read) == 1
    (tmp_path / "place" / "a").write_text("two and more")
    assert checksum(tmp_path / "place" / "a") == "two and more"
