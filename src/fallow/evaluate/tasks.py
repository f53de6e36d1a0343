"""Which benchmark tasks a model is asked, and with how many examples before each question."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from fallow.errors import UserError, unknown

AS_WRITTEN = -1
"""As many examples as the task's own file says."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A task as it is asked.

    >>> PRESETS["sheared-llama"][4]
    Asked(name='arc_challenge', shots=25, metric='acc_norm')
    """

    name: str
    """As lm-eval calls it."""

    shots: int = AS_WRITTEN
    """Solved examples before each question."""

    metric: str = ""
    """The one that counts; empty for the first that the task gives."""


PRESETS: Mapping[str, tuple[Asked, ...]] = {
    "sheared-llama": (
        Asked("sciq", 0, "acc"),
        Asked("piqa", 0, "acc"),
        Asked("winogrande", 0, "acc"),
        Asked("arc_easy", 0, "acc"),
        Asked("arc_challenge", 25, "acc_norm"),
        Asked("hellaswag", 10, "acc_norm"),
        Asked("logiqa", 0, "acc"),
        Asked("boolq", 32, "acc"),
        Asked("lambada_openai", 0, "acc"),
        Asked("nq_open", 32, "exact_match"),
        Asked("mmlu", 5, "acc"),
    ),
}
"""Tables of papers. `sheared-llama`: table 2 of Sheared-LLaMA (Xia et al., 2024, arXiv 2310.06694), whose average is
over these eleven. The shots are the paper's; it says accuracy, and for the tasks of the Open LLM Leaderboard (ARC-C,
HellaSwag) that is the one normalised by length, which lm-eval calls acc_norm."""

PRESET_NAMES = tuple(PRESETS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tasks:
    """Tasks of lm-eval, built in or from local files; needs the extra eval.

    >>> [asked.shots for asked in Tasks(preset="sheared-llama", names=("boolq", "piqa")).asked()]
    [32, 0]
    """

    names: tuple[str, ...] = ()
    """Tasks, groups or tags as lm-eval calls them. With a preset: only these of it."""

    preset: Literal["", "sheared-llama"] = ""
    """A published table: its tasks, with its number of shots for each."""

    path: str = ""
    """Folder of task files (YAML, with data beside them). Its tasks win over built-in ones of the same name, and while
    every name is found in it, the built-in ones are not looked at and no network is used."""

    shots: int = AS_WRITTEN
    """Solved examples before each question, for all tasks; -1: as each task or the preset says."""

    limit: int = 0
    """Ask only the first so many questions of each task; 0 asks all. For a quick look: figures need all."""

    def __post_init__(self) -> None:
        """Check the settings against each other."""
        if self.preset and self.preset not in PRESETS:
            raise unknown("preset", self.preset, PRESETS)
        for key, lowest in (("shots", AS_WRITTEN), ("limit", 0)):
            if getattr(self, key) < lowest:
                raise UserError(f"{key} is {getattr(self, key)}, but it must be at least {lowest}")
        if self.preset and self.shots != AS_WRITTEN:
            raise UserError(f"shots has no effect with preset {self.preset}, which has its own. Remove one of the two")
        if not self:
            for key, default in (("path", ""), ("shots", AS_WRITTEN), ("limit", 0)):
                if getattr(self, key) != default:
                    raise UserError(f"{key} has no effect without tasks. Write names, such as names: [arc_easy]")
        if self.preset:
            known = [asked.name for asked in PRESETS[self.preset]]
            for name in self.names:
                if name not in known:
                    raise UserError(f"names: {unknown(f'task of {self.preset}', name, known)}")
        double = sorted({name for name in self.names if self.names.count(name) > 1})
        if double:
            raise UserError(f"names holds {double[0]} twice. Remove one")

    def __bool__(self) -> bool:
        return bool(self.names or self.preset)

    def asked(self) -> tuple[Asked, ...]:
        """The tasks with their shots, in order."""
        if not self.preset:
            return tuple(Asked(name, self.shots) for name in self.names)
        listed = PRESETS[self.preset]
        if not self.names:
            return listed
        return tuple(next(asked for asked in listed if asked.name == name) for name in self.names)
