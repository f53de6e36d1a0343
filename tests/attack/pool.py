"""Tasks worked on by a few forks at a time, each with an empty folder, under a time limit."""

import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.attack.cases import Result, Task


class _Worker:
    def __init__(self, task: Task, scratch: Path) -> None:
        self.task, self.begun = task, time.monotonic()
        self.folder = Path(tempfile.mkdtemp(prefix="case-", dir=scratch))
        self._answer = os.memfd_create("answer")
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._work()

    def _work(self) -> None:
        try:
            os.setpgid(0, 0)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            try:
                answer = self.task.work(self.folder)
            except BaseException:
                answer = ("traceback", "in the harness: " + traceback.format_exc())
            os.write(self._answer, json.dumps(answer).encode())
        finally:
            os._exit(0)

    def result(self) -> Result | None:
        """None while it works."""
        pid, _ = os.waitpid(self.pid, os.WNOHANG)
        late = not pid and time.monotonic() - self.begun > self.task.limit
        if not pid and not late:
            return None
        if late:
            os.killpg(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        content = os.pread(self._answer, os.fstat(self._answer).st_size, 0)
        os.close(self._answer)
        outcome, detail = json.loads(content) if content else ("hang" if late else "crash", "the task itself")
        _remove(self.folder)
        task = self.task
        return Result(area=task.area, name=task.name, outcome=outcome, detail=detail, weight=task.weight)


def work_on(tasks: Sequence[Task], scratch: Path, *, jobs: int, say: Callable[[str], None]) -> list[Result]:
    """Work on all tasks; what fails is shown at once, and progress with the time left."""
    waiting, at_work, results = list(reversed(tasks)), list[_Worker](), list[Result]()
    begun, shown = time.monotonic(), 0.0
    while waiting or at_work:
        while waiting and len(at_work) < jobs:
            at_work.append(_Worker(waiting.pop(), scratch))
        for worker in list(at_work):
            if (result := worker.result()) is not None:
                at_work.remove(worker)
                results.append(result)
                if result.is_bad:
                    say(f"{result.area}: {result.name}: {result.outcome.upper()}: {result.detail}")
        now = time.monotonic()
        if results and (now - shown > 10 or not (waiting or at_work)):
            left = (now - begun) / len(results) * (len(tasks) - len(results))
            bad = sum(result.is_bad for result in results)
            say(f"  {len(results)} of {len(tasks)} done, {bad} failed, about {left / 60:.1f} minutes left")
            shown = now
        time.sleep(0.003)
    return results


def _remove(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_dir() and not path.is_symlink() and not os.access(path, os.W_OK):
            path.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
