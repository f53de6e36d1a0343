"""How the loss on held-out text is taken."""

from dataclasses import dataclass

from fallow.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class PerplexitySettings:
    """Windows over the text, and a figure of released code on request.

    >>> PerplexitySettings(stride=64).stride
    64
    """

    stride: int = 0
    """Tokens from one window to the next; a window is as long as the data set's context. Every token of the text is
    predicted once, from at least context - stride tokens before it where there are as many. Smaller is fairer to the
    model and takes context / stride times as long. 0: sequences side by side, as in training, without what is left over
    at the end."""

    n_plus_one: int = 0
    """Give the "N + 1" figure, too: the loss as the released code of GaLore and SLTrain computes it, which divides the
    sum over N batches by N + 1. This is the number of sequences in a batch, on which it depends. 0 leaves it out."""

    def __post_init__(self) -> None:
        for key in ("stride", "n_plus_one"):
            if getattr(self, key) < 0:
                raise UserError(f"{key} is {getattr(self, key)}, but it must be at least 0 (0 leaves it out).")

    def check_context(self, context: int) -> None:
        """Refuse windows with gaps between them.

        Raises:
            UserError: the stride is larger than the window.
        """
        if self.stride > context:
            raise UserError(
                f"stride is {self.stride}, but a window has {context} tokens and none may be left out. "
                f"Write 1 to {context}; {max(1, context // 2)} is usual."
            )
