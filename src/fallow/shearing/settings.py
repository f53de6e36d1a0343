"""What a smaller model is to be: sizes, a model to be like, or a number of parameters."""

from dataclasses import dataclass

from fallow.errors import UserError
from fallow.shearing.scores.names import By, Depth, Sharing

SIZES = ("layers", "hidden", "heads", "kv_heads", "inner")


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """The shape to cut a model to. The size of a head is inherited.

    >>> str(Target(layers=24, hidden=2048, heads=16, inner=5504))
    'layers 24, hidden 2048, heads 16, inner 5504'
    >>> str(Target(like="sheared-llama-1.3b"))
    'like sheared-llama-1.3b'
    """

    layers: int = 0
    """Layers to keep. 0, here and below: as many as the source has, unless `like` or `parameters` say otherwise."""

    hidden: int = 0
    """Channels of the residual stream to keep. Multiples of 64 or 128 are fast."""

    heads: int = 0
    """Query heads of a layer to keep. Where heads must fill the hidden size (GPT-2, GPT-NeoX, OPT) they follow from it.
    Under grouped queries every head of keys and values keeps the same number of them."""

    kv_heads: int = 0
    """Heads of keys and values to keep. By default all of them under grouped queries, else as many as `heads`."""

    inner: int = 0
    """Units of the MLP to keep."""

    like: str = ""
    """Take all sizes from a known model (sheared-llama-1.3b, pythia-160m, llama-3.2-3b, ...) or from the config.json of
    a folder."""

    parameters: int = 0
    """Choose the sizes that are not given so that the model has about this many parameters, embeddings included."""

    def __post_init__(self) -> None:
        given = [name for name in SIZES if getattr(self, name)]
        for name in (*SIZES, "parameters"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} is {getattr(self, name)}, but it must be at least 1 (or 0 to leave it open)")
        if self.like and (given or self.parameters):
            other = given[0] if given else "parameters"
            raise UserError(f"like and {other} are given together, but like means all sizes. Remove one")
        if not (self.like or given or self.parameters):
            raise UserError(
                "no target is given. Write sizes (layers, hidden, heads, inner), like: NAME, or parameters: NUMBER"
            )

    def __str__(self) -> str:
        if self.like:
            return f"like {self.like}"
        sizes = [f"{name} {getattr(self, name)}" for name in SIZES if getattr(self, name)]
        return ", ".join([*sizes, *([f"{self.parameters:,} parameters"] if self.parameters else [])])


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """Cut a trained model before a stage begins, by a score and without training gates.

    >>> Cut(to=Target(layers=6)).by
    'taylor'
    """

    to: Target
    """The shape to cut to."""

    by: By = "taylor"
    """The score that says which units stay: random, magnitude, activation, wanda, fluctuation or taylor."""

    depth: Depth = "auto"
    """How layers are scored: `influence` (how much one turns the stream), `loss` (the loss without it), `auto`: as `by`
    says."""

    sharing: Sharing = "auto"
    """What is cut together under grouped queries: `within` each group, `whole` groups, or `shared` by all groups."""

    sequences: int = 64
    """Training sequences that the model is measured on; without effect for random and magnitude."""

    def __post_init__(self) -> None:
        if self.sequences < 1:
            raise UserError(f"sequences is {self.sequences}, but it must be at least 1")
