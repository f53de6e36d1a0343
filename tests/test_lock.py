"""The lock on a folder: one owner, named to the others, freed by its end, also by kill -9."""

import errno
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fallow import lock
from fallow.errors import UserError
from fallow.lock import LOCK, owned

HOLD = "import sys, time; from pathlib import Path; from fallow.lock import owned\n"
HOLD += "with owned(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"


def test_a_second_owner_is_refused_and_told_who_the_first_is(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with owned(folder):
        with (
            pytest.raises(UserError, match=f"in use by process {os.getpid()} on {socket.gethostname()}. Wait"),
            owned(folder),
        ):
            pass
        with owned(tmp_path / "other"):
            pass
    with owned(folder):
        pass
    assert not list(folder.iterdir())


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"in use by process {process.pid} "), owned(tmp_path):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (tmp_path / LOCK).exists()
    with owned(tmp_path):
        pass


def test_a_file_is_locked_beside_itself(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    with owned(path, is_file=True):
        path.write_text("one\n")
        with pytest.raises(UserError, match=r"texts.jsonl is in use"), owned(path, is_file=True):
            pass
        with owned(tmp_path / "others.jsonl", is_file=True):
            pass
    assert [entry.name for entry in tmp_path.iterdir()] == ["texts.jsonl"]


def test_without_locks_a_warning_and_the_work_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none_here(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", none_here)
    with owned(tmp_path):
        pass
    assert "file system without locks" in caplog.text


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"), owned(tmp_path / "file" / "run"):
        pass
