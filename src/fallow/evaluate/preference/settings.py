"""How the texts of a stage are compared with those of another model."""

from dataclasses import dataclass, fields

from fallow.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class Preference:
    """Whose responses the ones of this stage are held against, and by whom. Nobody is asked while `judge` is empty.

    >>> Preference(judge="python judge.py", against="base").max_pairs
    0
    """

    judge: str = ""
    """The judge, a command as for `fallow judge`: it reads questions and writes verdicts, a line each."""

    against: str = ""
    """An earlier stage of the recipe that is judged on the same pairs, or a file of responses (JSON Lines)."""

    max_pairs: int = 0
    """Compare this many pairs, spread evenly. 0 compares all."""

    retries: int = 0
    """Ask again so often when an answer is not understood."""

    ahead: int = 1
    """Questions open at once, for a judge that works on several."""

    timeout: float = 600.0
    """Seconds to wait for an answer."""

    def __post_init__(self) -> None:
        if bool(self.judge) != bool(self.against):
            missing = "against" if self.judge else "judge"
            what = "an earlier stage or a file of responses" if self.judge else "a command, such as python judge.py"
            raise UserError(f"{missing} is missing. Write {what}")
        for key, lowest in (("max_pairs", 0), ("retries", 0), ("ahead", 1)):
            if getattr(self, key) < lowest:
                raise UserError(f"{key} is {getattr(self, key)}, but it must be at least {lowest}")
        if not self.timeout > 0:
            raise UserError(f"timeout is {self.timeout:g}, but it must be above 0 seconds")
        changed = [f.name for f in fields(self) if not self.judge and getattr(self, f.name) != f.default]
        if changed:
            raise UserError(f"{changed[0]} has no effect without a judge. Write judge and against, or remove it")

    @property
    def is_file(self) -> bool:
        """Whether `against` is a file: names of stages have no dots and no slashes."""
        return any(sign in self.against for sign in "./\\")
