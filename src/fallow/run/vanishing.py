"""What must stay in the folder of a run while it goes: what vanishes is an error, not a hole in the results."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from fallow.errors import UserError
from fallow.files import is_temporary
from fallow.lock import LOCK
from fallow.train.callbacks import Callback

if TYPE_CHECKING:
    from fallow.train.loop import Loop
    from fallow.train.records import FitResult, StepRecord

_PASSING = ("checkpoints", "best")
"""Folders of a stage whose content a run removes itself."""

_EVERY = 1.0
"""Seconds between two looks while steps go on."""


class Present:
    """The files and folders of a run that were there once and have to stay.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: set[Path] = set()
        self._looked = 0.0

    def note(self) -> None:
        """From now on all that is there has to stay."""
        self._known |= {self.folder, *(path for path in self.folder.rglob("*") if not _passes(path, self.folder))}

    def check(self, every: float = 0.0) -> None:
        """See that all of it is still there.

        Args:
            every: do nothing if the last look was less than these seconds ago.

        Raises:
            UserError: names what vanished.
        """
        if time.monotonic() - self._looked < every:
            return
        self._looked = time.monotonic()
        lost = sorted(path for path in self._known if not path.exists())
        if lost:
            more = f" and {len(lost) - 1} more below it or beside it" if len(lost) > 1 else ""
            raise UserError(
                f"{lost[0]}{more} vanished while the run was going. Put back what is missing and run the same command "
                "again, which goes on from the newest checkpoint; or use another --output"
            )


class StillThere(Callback):
    """Looks while a stage trains, and after each checkpoint. The last callback, so that logs are open when it begins.

    Args:
        present: what has to stay.
    """

    def __init__(self, present: Present) -> None:
        self.present = present

    def on_start(self, loop: "Loop") -> None:
        """The logs have to stay from here on."""
        self.present.note()

    def on_step(self, loop: "Loop", record: "StepRecord") -> None:
        """Now and then."""
        self.present.check(_EVERY)

    def on_checkpoint(self, loop: "Loop", path: Path) -> None:
        """Each time."""
        self.present.check()

    def on_stop(self, loop: "Loop", result: "FitResult") -> None:
        """Before anything is handed on."""
        self.present.check()


def _passes(path: Path, folder: Path) -> bool:
    parts = path.relative_to(folder).parts
    return parts[0] == LOCK or any(map(is_temporary, parts)) or any(part in _PASSING for part in parts[1:])
