"""Standard streams that cannot end a run: closed, full, or of an encoding that lacks a letter."""

import contextlib
import errno
import io
import os
import sys
from typing import Any, cast

_LOST = (errno.ENOSPC, errno.EIO, errno.EBADF, errno.EDQUOT, errno.EFBIG)


class _Patient(io.FileIO):
    """A stream of remarks: what cannot be written is lost, and the work goes on. A reader who left is told."""

    def write(self, data: Any) -> int:
        """Write, or lose it."""
        try:
            return cast(int, super().write(data))
        except OSError as error:
            if error.errno not in _LOST:
                raise
            return len(memoryview(data).cast("B"))


def prepare() -> None:
    r"""Make the standard streams of this process safe to write to; called once, when the command starts.

    A stream that is closed (`>&-`) becomes one that swallows. A letter that the encoding lacks is written as an escape,
    such as \xfc. Progress on standard error that a full disk cannot take is lost; results on standard output are not:
    there it is an error.
    """
    if sys.stdout is None:
        sys.stdout = _nowhere()
    if sys.stderr is None:
        sys.stderr = _nowhere()
    elif (usual := sys.__stderr__) is not None and sys.stderr is usual:
        raw = _Patient(usual.fileno(), "w", closefd=False)
        sys.stderr = io.TextIOWrapper(
            io.BufferedWriter(raw), usual.encoding, "backslashreplace", line_buffering=True, write_through=True
        )
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def abandon_output() -> None:
    """Where standard output cannot take what is left, send it nowhere: Python would complain once more at its exit."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        pass
    else:
        return
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _nowhere() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.FileIO(os.open(os.devnull, os.O_WRONLY), "w"), "utf-8")
