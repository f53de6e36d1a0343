"""What a recipe's `evaluate:` section says: how a finished stage is judged."""

from dataclasses import dataclass

from fallow.evaluate.decoding import Decoding


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """How the model of a finished stage is judged. What can be measured is measured; these are the settings of it.

    >>> Evaluation(decoding=Decoding(num_beams=4)).decoding.num_beams
    4
    """

    decoding: Decoding = Decoding()
    """How texts are generated. For pairs only."""
