"""Files that are whole or absent."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from fallow import files
from fallow.errors import UserError
from fallow.files import (
    atomic,
    file_sha256,
    fill_folder,
    is_temporary,
    read_json,
    read_sealed,
    refuse_used,
    remove_folder,
    sort_metadata,
    sweep,
    write_folder,
    write_json,
    write_sealed,
    write_text,
)
from fallow.integrity import listing
from fallow.train.callbacks import JsonLog


def test_what_was_there_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_json(path, {"a": "\u00e9"})

    def broken_off() -> None:
        with atomic(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken_off()
    assert read_json(path, "") == {"a": "\u00e9"}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff"])
def test_damaged_json(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a.json is damaged .* Write it again"):
        read_json(path, "Write it again.")
    with pytest.raises(UserError, match=r"b.json cannot be read: No such file"):
        read_json(tmp_path / "b.json", "")


def test_a_file_is_written_beside_and_leaves_nothing(tmp_path: Path) -> None:
    names = []
    for _ in range(2):
        with atomic(tmp_path / "a" / "file") as temporary:
            names.append(temporary.parent.name)
            assert is_temporary(names[-1])
            temporary.write_text("content")
    assert names[0] != names[1]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    for name in (".results.json.tmp", ".results.json.0123456789abcdef.tmp", "results.json"):
        (tmp_path / name).symlink_to(victim)
    write_json(tmp_path / "results.json", {})
    assert victim.read_text() == "untouched"
    assert not (tmp_path / "results.json").is_symlink()


def test_only_a_regular_file_is_replaced() -> None:
    with pytest.raises(UserError, match="/dev/null is no regular file"):
        write_text(Path("/dev/null"), "")


def test_a_folder_appears_whole_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "model"
    for number in range(2):
        with write_folder(path) as temporary:
            (temporary / "sub").mkdir()
            (temporary / "sub" / f"{number}").write_text("x")
            assert path.exists() == bool(number)
    assert listing(path) == {"sub/1": file_sha256(path / "sub" / "1")}

    def broken_off() -> None:
        with write_folder(path) as temporary:
            (temporary / "half").write_text("x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken_off()
    assert list(listing(path)) == ["sub/1"]
    remove_folder(path)
    remove_folder(path)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_removal_left_goes_with_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "old").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda *_, **__: None)  # as if killed here: the name is gone, the content is not
        remove_folder(tmp_path / "old")
    assert [path.name[:5] for path in tmp_path.iterdir()] == [".old."]
    remove_folder(tmp_path / "old")
    assert list(tmp_path.iterdir()) == []


def test_metadata_of_safetensors_files_have_one_order(tmp_path: Path) -> None:
    keys = [f"key {number} \u00e9" for number in range(12)]
    written = set()
    for number in range(4):
        path = tmp_path / f"{number}"
        save_file({"a": torch.arange(5), "b": torch.ones(2)}, path, metadata={key: key for key in keys})
        sort_metadata(path)
        written.add(path.read_bytes())
        with safe_open(path, framework="pt") as file:
            assert sorted(file.metadata()) == sorted(keys) and file.get_tensor("a").tolist() == [0, 1, 2, 3, 4]
    assert len(written) == 1


def test_a_folder_is_replaced_where_names_cannot_be_exchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_exchanged", lambda one, other: False)
    for number in range(2):
        with write_folder(tmp_path / "model") as temporary:
            (temporary / f"{number}").write_text("x")
    assert list(listing(tmp_path)) == ["model/1"]


def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(tmp_path: Path) -> None:
    (tmp_path / ".model.0123456789abcdef.tmp").mkdir()
    (tmp_path / ".other.0123456789abcdef.tmp").mkdir()
    (tmp_path / ".recipe.yaml.tmp").touch()
    with write_folder(tmp_path / "model") as temporary:
        found = sorted(path.name for path in tmp_path.iterdir())
        assert found == sorted([".other.0123456789abcdef.tmp", ".recipe.yaml.tmp", temporary.parent.name])
        assert sweep(tmp_path) == [".other.0123456789abcdef.tmp", ".recipe.yaml.tmp"]
        with write_folder(tmp_path / "model"):
            pass
        assert temporary.is_dir()


def test_all_is_flushed_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every file and folder, then of the folder that holds the name."""
    flushed: list[tuple[int, bool]] = []
    fsync = os.fsync
    path = tmp_path / "model"

    def noted(descriptor: int) -> None:
        flushed.append((os.fstat(descriptor).st_ino, path.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    with write_folder(path) as temporary:
        (temporary / "sub").mkdir()
        (temporary / "sub" / "a").write_text("x")
        (temporary / "b").write_text("x")
    inside = [path / "sub" / "a", path / "b", path / "sub", path]
    assert {(place.stat().st_ino, False) for place in inside} | {(tmp_path.stat().st_ino, True)} == set(flushed)


def test_a_sealed_record_that_was_changed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "stage.json"
    value = {"loss": 0.1, "best": float("nan"), "by": {3: "three"}, "text": "\u00e9"}
    write_sealed(path, value)
    assert read_sealed(path, "")["by"] == {"3": "three"}
    whole = path.read_text()
    path.write_text(whole.replace("0.1", "0.2"))
    with pytest.raises(UserError, match=r"stage.json was changed or is damaged.* Train again"):
        read_sealed(path, "Train again.")
    write_json(path, value)
    with pytest.raises(UserError, match=r"has no checksum of itself"):
        read_sealed(path, "")


def test_a_folder_that_is_there_gets_the_files_and_keeps_others(tmp_path: Path) -> None:
    for name in ("README.md", "config.json", "model-1.safetensors"):
        (tmp_path / name).write_text("old")
    with fill_folder(tmp_path, stale=["model*.safetensors"]) as temporary:
        (temporary / "config.json").write_text("new")
        (temporary / "sub").mkdir()
        (temporary / "sub" / "a").write_text("new")
    found = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {"README.md": "old", "config.json": "new", "sub/a": "new"}


def test_a_folder_killed_while_it_is_filled_is_filled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dying after every rename: the folder is no model, and counts as empty for the same command."""
    rename = Path.rename
    for moves in range(3):
        output = tmp_path / f"{moves}"
        output.mkdir()
        child = os.fork()
        if child == 0:
            left = iter(range(moves))

            def dying(self: Path, target: Path, left: Iterator[int] = left) -> Path:
                if next(left, None) is None:
                    os._exit(9)
                return rename(self, target)

            monkeypatch.setattr(Path, "rename", dying)
            with fill_folder(output) as temporary:
                for name in ("a", "b", "config.json"):
                    (temporary / name).write_text("x")
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        assert not (output / "config.json").exists()
        assert len([path for path in output.iterdir() if not is_temporary(path.name)]) == moves
        refuse_used(output)
        assert list(output.iterdir()) == []
    (output / "mine").touch()
    with pytest.raises(UserError, match=r"not empty. Use another --output"):
        refuse_used(output)


def test_logs_are_not_written_through_links(tmp_path: Path) -> None:
    """A link that somebody planted where a log belongs would let a run change a file elsewhere."""
    target, planted = tmp_path / "elsewhere", tmp_path / "log.jsonl"
    target.write_text("kept")
    planted.symlink_to(target)
    for write in (lambda: files.append(planted, b"x"), lambda: JsonLog(planted).on_start(None)):
        with pytest.raises(UserError, match=r"log\.jsonl is a link or no regular file, and is not written through"):
            write()
    assert target.read_text() == "kept"
