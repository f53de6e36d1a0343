"""What looks on while a run goes: logs, progress, memory, signals. One noun a file."""

from fallow.train.callbacks.base import Callback
from fallow.train.callbacks.console import Console
from fallow.train.callbacks.jsonl import JsonLog
from fallow.train.callbacks.method import MethodLog
from fallow.train.callbacks.signals import Signals
from fallow.train.callbacks.tensorboard import TensorBoard
from fallow.train.callbacks.timing import TimingLog

__all__ = ["Callback", "Console", "JsonLog", "MethodLog", "Signals", "TensorBoard", "TimingLog"]
