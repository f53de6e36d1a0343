"""How the data mixture of a stage follows the losses of its domains."""

import math
from dataclasses import dataclass, field, replace
from typing import Literal

from fallow.data.proportions import RULES, Rule
from fallow.errors import UserError, unknown


@dataclass(frozen=True, kw_only=True, slots=True)
class References:
    """The loss that each domain should reach, in nats a token; exactly one of the four says it."""

    losses: dict[str, float] = field(default_factory=dict)
    """By domain."""

    file: str = ""
    """A JSON file that `fallow reference` wrote from the losses of models of other sizes."""

    path: str = ""
    """A model folder, or `hub:owner/name`, measured once when the stage begins: usually the model before pruning."""

    stage: str = ""
    """An earlier stage, whose finished model is measured once when this stage begins."""

    def given(self) -> list[str]:
        """Which of the four are written."""
        return [key for key in ("losses", "file", "path", "stage") if getattr(self, key)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Mixing:
    """Dynamic batch loading (Xia et al., 2024, arXiv 2310.06694): domains far above their reference loss get more data.

    After each validation the shares of the data set's sources move by a rule; see `fallow.data.proportions.Rule` for
    the equation. With rule `fixed` they stay as the sources' weights say.

    >>> Mixing(rule="stable", references=References(losses={"web": 2.1, "code": 0.7})).terms().ceiling
    4.0
    """

    rule: Literal["fixed", "paper", "released", "stable"] = "fixed"
    """`paper` raises gaps to 0; `released` (the published code) keeps their sign and smooths by 1e-4; `stable` is ours:
    small steps, a floor, and no domain beyond four times its start."""

    references: References = field(default_factory=References)
    """What the losses are compared with."""

    start: str = ""
    """An earlier stage: begin with the shares it ended with, instead of the sources' weights."""

    step_size: float = 0.0
    """How strongly a gap acts, instead of the rule's own; 0 for the rule's own (1, and 0.1 for `stable`)."""

    floor: float = -1.0
    """Share that is spread evenly after each move; -1 for the rule's own."""

    ceiling: float = 0.0
    """Largest multiple of a domain's share at the start; 0 for the rule's own."""

    def __post_init__(self) -> None:
        if self.rule not in ("fixed", *RULES):
            raise UserError(f"rule: {unknown('rule', self.rule, ('fixed', *RULES))}")
        own = {"step_size": 0.0, "floor": -1.0, "ceiling": 0.0, "start": ""}
        given = self.references.given()
        if self.rule == "fixed":
            idle = [key for key, value in own.items() if getattr(self, key) != value] + ["references"] * bool(given)
            if idle:
                raise UserError(
                    f"{idle[0]} has no effect with rule fixed. Remove it, or write rule: paper, released or stable."
                )
            return
        if len(given) != 1:
            raise UserError(
                f"references has {' and '.join(given) or 'nothing'}, but rule {self.rule} needs one of losses, file, "
                "path and stage. Without losses of other sizes, take the model before pruning: path or stage."
            )
        if not 0 <= self.step_size < math.inf:
            raise UserError(f"step_size is {self.step_size}, but it must be above 0 (0 for the rule's own).")
        if self.floor != -1 and not 0 <= self.floor < 1:
            raise UserError(f"floor is {self.floor}, but it must be at least 0 and below 1 (-1 for the rule's own).")
        if self.ceiling != 0 and not self.ceiling > 1:
            raise UserError(f"ceiling is {self.ceiling}, but it must be above 1 (0 for the rule's own).")

    def terms(self) -> Rule:
        """The rule with what this stage changes of it."""
        own = {"step_size": (self.step_size, 0.0), "floor": (self.floor, -1.0), "ceiling": (self.ceiling, 0.0)}
        return replace(RULES[self.rule], **{key: value for key, (value, none) in own.items() if value != none})

    def stages(self) -> list[str]:
        """Earlier stages that it reads from."""
        return [name for name in (self.references.stage, self.start) if name]
