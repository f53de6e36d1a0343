"""What a step and a whole run have to tell."""

from dataclasses import dataclass, field
from typing import Literal

Stopped = Literal["budget", "early", "signal"]


@dataclass(frozen=True, kw_only=True, slots=True)
class StepRecord:
    """One update. All but `seconds` is the same in every repetition of a run."""

    step: int
    """Number of the update, from 1."""
    tokens: int
    """Tokens (of classification: texts) with a loss so far, this step included, over all processes."""
    num_tokens: int
    """Those of this step."""
    loss: float
    """Mean over the tokens of this step, in nats."""
    norm: float
    """Global norm of the gradients before clipping."""
    lr: float
    """Rate of parameters without a multiplier."""
    seconds: float
    """Wall time of this step on this process."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FitResult:
    """How a run ended."""

    steps: int
    """Updates done."""
    tokens: int
    """Tokens (of classification: texts) with a loss, over all processes."""
    seconds: float
    """Wall time of the steps, restarts included, validation and saving not."""
    tokens_per_second: float
    """tokens / seconds."""
    stopped: Stopped
    """`budget`: all steps done. `early`: patience used up. `signal`: asked to leave; not finished."""
    loss: float
    """Training loss of the last step."""
    validation: dict[str, float] = field(default_factory=dict)
    """Measured for the weights the model now has; empty without validation."""
    best_step: int = -1
    """Step of the best validation; -1 without validation."""

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        return self.stopped != "signal"
