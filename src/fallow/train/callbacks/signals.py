"""Leaving politely when asked to."""

import signal
import threading
from types import FrameType
from typing import TYPE_CHECKING, Any

from fallow.train.callbacks.base import Callback

if TYPE_CHECKING:
    from fallow.train.loop import Loop
    from fallow.train.records import FitResult


class Signals(Callback):
    """On SIGTERM or SIGINT: the step is finished, a checkpoint saved, and all processes leave together.

    `FitResult.stopped` is then `signal`. A second SIGINT does not wait. Without effect outside the main thread, where
    Python allows no signal handlers.
    """

    every_rank = True

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}

    def on_start(self, loop: "Loop") -> None:
        """Take over both signals."""
        if threading.current_thread() is not threading.main_thread():
            return

        def ask(number: int, frame: FrameType | None) -> None:
            if loop.stop_requested and number == signal.SIGINT:
                raise KeyboardInterrupt
            loop.request_stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, ask)

    def on_stop(self, loop: "Loop", result: "FitResult") -> None:
        """Give them back."""
        self._restore()

    def on_error(self, loop: "Loop", error: BaseException) -> None:
        """Give them back."""
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
