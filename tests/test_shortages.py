"""What is used up for now is told as that, in whichever way a library found out."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from fallow.cli import main as command
from fallow.errors import UserError
from fallow.shortages import ShortageError, refuse_shortage, shortage_of

NATIVE = Exception("Error while serializing: I/O error: No space left on device (os error 28)")
CASES = {
    "disk is full": [OSError(errno.ENOSPC, "x"), NATIVE, RuntimeError("write failed: No space left on device")],
    "quota": [OSError(errno.EDQUOT, "x"), Exception("I/O error (os error 122)")],
    "memory is used up": [
        MemoryError(),
        OSError(errno.ENOMEM, "x"),
        ImportError("failed to map segment from shared object: Cannot allocate memory"),
        ImportError("tokenizers.abi3.so: failed to map segment from shared object"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"),
        Exception("Cannot allocate memory (os error 12)"),
    ],
    "threads": [RuntimeError("can't start new thread"), Exception("Resource temporarily unavailable (os error 11)")],
    "files are open": [OSError(errno.EMFILE, "x"), OSError(errno.ENFILE, "x"), Exception("(os error 24)")],
}


@pytest.mark.parametrize(("what", "error"), [(what, error) for what, errors in CASES.items() for error in errors])
def test_what_is_used_up_is_told(
    what: str, error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where a loader took it for damage: the command says what it was."""
    with pytest.raises(ShortageError, match=what), refuse_shortage(Path("model")):
        raise error

    def damaged(*_: object) -> int:
        try:
            raise error
        except Exception:
            raise UserError("the folder is damaged. Delete it") from None

    monkeypatch.setattr(command, "_dispatch", damaged)
    assert command.main(["doctor"]) == 2
    line = capsys.readouterr().err
    assert what in line
    assert "elete" not in line
    assert line.count("\n") == 1


def test_other_trouble_is_no_shortage(tmp_path: Path) -> None:
    quoted = ValueError("could not convert string to float: 'out of memory'")
    lock = UserError("another run has this folder")
    lock.__cause__ = BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
    for error in (OSError(errno.EACCES, "x"), quoted, lock, UserError("the disk is full")):
        assert shortage_of(error) is None
    with pytest.raises(PermissionError), refuse_shortage(tmp_path):
        raise PermissionError


def test_a_disk_with_room_but_no_inode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = SimpleNamespace(f_files=100, f_favail=0, f_bavail=1000)
    monkeypatch.setattr(os, "statvfs", lambda path: facts)
    with pytest.raises(ShortageError, match="no inode left for another file"), refuse_shortage(tmp_path / "a" / "b"):
        raise OSError(errno.ENOSPC, "No space left on device")
