"""What a recipe's `evaluate:` section says: how a finished stage is judged."""

from dataclasses import dataclass
from typing import Literal

from fallow.errors import UserError, unknown
from fallow.evaluate.decoding import Decoding
from fallow.evaluate.perplexity_settings import PerplexitySettings
from fallow.evaluate.preference.settings import Preference
from fallow.evaluate.tasks import Tasks

PROFILE_NAMES = ("sacrebleu", "e2e", "webnlg2017", "webnlg2020", "dart")


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """How the model of a finished stage is judged. What can be measured is measured; these are the settings of it.

    >>> Evaluation(decoding=Decoding(num_beams=4), profile="e2e").profile
    'e2e'
    """

    decoding: Decoding = Decoding()
    """How texts are generated. For pairs only."""

    profile: Literal["sacrebleu", "e2e", "webnlg2017", "webnlg2020", "dart"] = "sacrebleu"
    """How the texts are scored: BLEU by sacrebleu, or every metric of a data set's official evaluation. For pairs
    only."""

    max_sequences: int = 0
    """Take the loss on at most this many held-out sequences of each set, evenly spread over it; 0 takes it on all. For
    text and pairs, where many stages are compared in little time; reports say what share it was."""

    perplexity: PerplexitySettings = PerplexitySettings()
    """How the loss is taken. For text only."""

    preference: Preference = Preference()
    """A judge of yours compares the texts with another model's. For pairs only."""

    tasks: Tasks = Tasks()
    """Benchmark tasks of lm-eval that the model is asked. For causal language models."""

    def __post_init__(self) -> None:
        if self.profile not in PROFILE_NAMES:
            raise unknown("profile", str(self.profile), PROFILE_NAMES)
        if self.max_sequences < 0:
            raise UserError(f"max_sequences is {self.max_sequences}, but it must be at least 0 (0 takes all)")
