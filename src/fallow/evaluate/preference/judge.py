"""A judge: any command that reads questions and writes verdicts, one JSON object a line."""

import contextlib
import json
import queue
import shlex
import subprocess
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Literal, Self

from fallow.errors import UserError
from fallow.json_text import parse

Winner = Literal["first", "second", "tie"]
"""Which of two responses is better, by the place where it was shown."""

WINNERS: tuple[Winner, ...] = ("first", "second", "tie")


class Judge:
    """The command, running.

    It gets {"id", "instruction", "first", "second"} on a line of its standard input and answers {"winner": "first",
    "second" or "tie"} on a line of its standard output, flushed at once; other keys, such as a reason, are kept. An
    `id` in the answer says which question it is to; without one it is to the oldest that is open. What the command
    writes on standard error is shown.

    Args:
        command: as typed in a shell, but run without one.
        timeout: seconds to wait for an answer.

    Raises:
        UserError: the command cannot be run.
    """

    def __init__(self, command: str, timeout: float = 600.0) -> None:
        self.command, self.timeout = command, timeout
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise UserError(f"--judge {command!r} cannot be read: {error}. Close the quotes") from None
        if not words:
            raise UserError("--judge is empty. Write a command, such as --judge 'python judge.py'")
        try:
            self._process = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8", errors="replace"
            )
        except OSError as error:
            raise UserError(f"the judge {words[0]} cannot be run: {error.strerror}. Check --judge") from None
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ask(self, question: Mapping[str, str]) -> None:
        """Send a question.

        Raises:
            UserError: the judge has ended.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(question, ensure_ascii=False) + "\n")
            self._process.stdin.flush()
        except (BrokenPipeError, OSError):
            raise self._ended() from None

    def hear(self) -> str:
        """The next line that the judge writes.

        Raises:
            UserError: it has ended, or says nothing for too long.
        """
        try:
            line = self._lines.get(timeout=self.timeout)
        except queue.Empty:
            raise UserError(
                f"the judge said nothing for {self.timeout:g} s. It must answer each line at once and flush; else give "
                "it more with --timeout"
            ) from None
        if line is None:
            raise self._ended()
        return line

    def close(self) -> None:
        """Let it end; it gets two seconds."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it may have ended already
            self._process.stdin.close()
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip():
                self._lines.put(line.rstrip("\r\n"))
        self._lines.put(None)

    def _ended(self) -> UserError:
        try:
            code = f"with exit code {self._process.wait(timeout=2)}"
        except subprocess.TimeoutExpired:
            code = "its output"
        return UserError(
            f"the judge ended {code} before all was judged. Mend it ({self.command}) and run the same command"
        )


def verdict_of(line: str) -> tuple[str | None, Winner | None]:
    """The id and the winner in an answer; None where the answer has none that means anything.

    >>> verdict_of('{"id": "7", "winner": "Tie", "reason": "alike"}')
    ('7', 'tie')
    >>> verdict_of("the first one is better")
    (None, None)
    """
    try:
        answer = parse(line)
    except ValueError:
        return None, None
    if not isinstance(answer, dict):
        return None, None
    key, said = answer.get("id"), str(answer.get("winner", "")).strip().lower()
    return None if key is None else str(key), next((winner for winner in WINNERS if winner == said), None)
