"""A command of fallow as a fork of this process: really killed, in a session of its own, under limits."""

import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

LIMIT = 60.0
"""Seconds on the clock that a command may take; these take about one."""
MEMORY = 12 << 30
"""Bytes of address space; torch alone maps several GB."""

_CHANGES = ("os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.link", "os.symlink", "os.truncate")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended. `code` is negative for a signal; `changes` counts its changes of files, if asked for."""

    code: int
    out: str
    err: str
    seconds: float
    is_late: bool = False
    changes: int = 0

    @property
    def line(self) -> str:
        """The one line of an error, or an empty string."""
        lines = [line for line in self.err.splitlines() if line.startswith("fallow") and ": " in line]
        return lines[-1] if lines else ""

    @property
    def outcome(self) -> str:
        """Of a command that may be refused: named, accepted, or what went wrong."""
        if self.is_late:
            return "hang"
        if self.code < 0:
            return "crash"
        if "Traceback (most recent call last)" in self.err:
            return "traceback"
        if self.code == 0:
            return "accepted"
        return "named" if self.line and self.code in (1, 2, 130) else "unnamed"

    @property
    def why(self) -> str:
        """The end of what it said."""
        return self.line or "\n".join(self.err.strip().splitlines()[-4:])


class Child:
    """A command that runs in a fork.

    Args:
        argv: what stands behind `fallow`; or a function, whose result is the exit code.
        folder: where it runs.
        environment: variables on top of ours; None removes one.
        stdin: what it can read there.
        kill_at: it kills itself (SIGKILL) just before the change of a file that has this number, counted from 1.
        count: whether to count its changes of files.
        limits: resource -> soft and hard limit.
        before: called in the child, before the command.
        at_end: called in the child after the command, or before it kills itself.
    """

    def __init__(
        self,
        argv: Sequence[str] | Callable[[], int],
        folder: Path,
        *,
        environment: Mapping[str, str | None] | None = None,
        stdin: bytes = b"",
        kill_at: int = 0,
        count: bool = False,
        limits: Mapping[int, int] | None = None,
        before: Callable[[], None] | None = None,
        at_end: Callable[[], None] | None = None,
    ) -> None:
        self._begun = time.monotonic()
        self._files = [os.memfd_create(name) for name in ("in", "out", "err", "changes")]
        os.write(self._files[0], stdin)
        os.lseek(self._files[0], 0, os.SEEK_SET)
        sys.stdout.flush()
        sys.stderr.flush()
        self._code: int | None = None
        self._late = False
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                self._become(folder, environment or {}, {resource.RLIMIT_AS: MEMORY, **(limits or {})})
                if kill_at or count:
                    _count_changes(kill_at, self._files[3], at_end)
                if before is not None:
                    before()
                code = _called(argv)
                if at_end is not None:
                    at_end()
            except BaseException:  # of the harness itself: shown like any other
                traceback.print_exc()
            finally:
                for stream in (sys.stdout, sys.stderr):
                    with suppress(OSError, ValueError, AttributeError):
                        stream.flush()
                os._exit(code)

    def _become(self, folder: Path, environment: Mapping[str, str | None], limits: Mapping[int, int]) -> None:
        os.setsid()
        _die_with_parent()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as Python does
        for target, source in enumerate(self._files[:3]):
            os.dup2(source, target)
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
        os.chdir(folder)
        for name, value in environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        for kind, amount in limits.items():
            resource.setrlimit(kind, (amount, amount))

    @property
    def is_running(self) -> bool:
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
                self._kill_group()  # what it started and left
        return self._code is None

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the command itself, if it still runs."""
        if self.is_running:
            os.kill(self.pid, number)

    def said(self) -> str:
        """What it wrote on standard error so far."""
        return self._read(self._files[2])

    def wait(self, limit: float = LIMIT) -> Ended:
        """Wait until it has ended; kill it, and all that it started, when the time is over."""
        end = time.monotonic() + limit
        while self.is_running:
            if time.monotonic() > end:
                self._late = True
                self._kill_group()
                os.waitpid(self.pid, 0)
                self._code = -signal.SIGKILL
                break
            time.sleep(0.003)
        out, err, changes = (self._read(file) for file in self._files[1:])
        for file in self._files:
            os.close(file)
        assert self._code is not None
        return Ended(
            code=self._code,
            out=out,
            err=err,
            seconds=time.monotonic() - self._begun,
            is_late=self._late,
            changes=len(changes),
        )

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    @staticmethod
    def _read(file: int) -> str:
        return os.pread(file, os.fstat(file).st_size, 0).decode("utf-8", "replace")


def run(argv: Sequence[str] | Callable[[], int], folder: Path, *, limit: float = LIMIT, **how: object) -> Ended:
    """A command, waited for; arguments as for `Child`."""
    return Child(argv, folder, **how).wait(limit)  # type: ignore[arg-type]


def _called(argv: Sequence[str] | Callable[[], int]) -> int:
    from fallow.cli.main import main

    try:
        return argv() if callable(argv) else main(list(argv))
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1


def _die_with_parent() -> None:
    """When a worker is stopped, what it started ends as well."""
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG of Linux


def _count_changes(kill_at: int, file: int, at_end: Callable[[], None] | None) -> None:
    """Count each change of a file or folder before it happens, and end there if it is the one."""
    seen = 0

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        if event == "open":
            flags = arguments[2]
            if not isinstance(flags, int) or not flags & _WRITES or str(arguments[0]).startswith("/dev/"):
                return
        elif event not in _CHANGES:
            return
        seen += 1
        if seen == kill_at:
            if at_end is not None:
                at_end()
            os.kill(os.getpid(), signal.SIGKILL)
        os.write(file, b".")

    sys.addaudithook(hook)
