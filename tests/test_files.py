"""Files that are whole or absent."""

import errno
from pathlib import Path

import pytest

from fallow.errors import UserError
from fallow.files import atomic, is_full, read_json, refuse_full_disk, write_json


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


def test_a_full_disk_is_known_however_it_is_told(tmp_path: Path) -> None:
    inner = OSError(errno.ENOSPC, "No space left on device")
    outer = RuntimeError("could not write")
    outer.__cause__ = inner
    told = RuntimeError("I/O error: No space left on device (os error 28)")
    assert all(map(is_full, (inner, outer, told)))
    assert not is_full(OSError(errno.EACCES, "Permission denied"))
    with pytest.raises(UserError, match="the disk is full while writing"), refuse_full_disk(tmp_path):
        raise outer
    with pytest.raises(PermissionError), refuse_full_disk(tmp_path):
        raise PermissionError


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff"])
def test_damaged_json(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a.json is damaged .* Write it again"):
        read_json(path, "Write it again.")
    with pytest.raises(UserError, match=r"b.json cannot be read: No such file"):
        read_json(tmp_path / "b.json", "")
