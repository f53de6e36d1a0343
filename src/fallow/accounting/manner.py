"""How a stage trains, as far as memory and traffic depend on it: what the optimizer keeps, and when it works."""

from dataclasses import dataclass
from typing import Literal

from fallow.accounting.planned import StoredTensor

MOMENTS = 2
STEP_BYTES = 4
"""Optimizers keep one fp32 step counter for each parameter."""


@dataclass(frozen=True, kw_only=True, slots=True)
class States:
    """What an optimizer keeps of a trainable parameter; the default is torch's AdamW.

    >>> weight = StoredTensor("w", (64, 100), "mlp", 0)
    >>> States().num_bytes(weight, 6400, 4), States(width=4, block=256, small=4096).num_bytes(weight, 6400, 2)
    (51204, 13004)
    """

    width: int = 0
    """Bytes of a number of a moment that is kept in full; 0: as many as of a weight."""

    block: int = 0
    """Entries that share an fp32 scale in moments of a byte an entry; 0: all moments are in full."""

    small: int = 0
    """A parameter (or projected gradient) with fewer entries keeps its moments in full."""

    rank: int = 0
    """Width of the subspace of projected gradients."""

    projected: frozenset[str] = frozenset()
    """Names of the matrices whose gradients are projected."""

    def moment_bytes(self, tensor: StoredTensor, local: int, element: int) -> int:
        """Bytes of both moments, and of a projection, on one process.

        Args:
            tensor: a trainable parameter.
            local: entries of it on the process.
            element: bytes of a weight.
        """
        if tensor.name in self.projected:
            short, long = sorted(tensor.shape)
            return self._moments(self.rank * long, self.rank * long, element) + self.rank * short * element
        return self._moments(tensor.numel, local, element)

    def num_bytes(self, tensor: StoredTensor, local: int, element: int) -> int:
        """The same with the step counter."""
        return self.moment_bytes(tensor, local, element) + STEP_BYTES

    def saved_bytes(self, tensor: StoredTensor, local: int, element: int, processes: int) -> int:
        """What a checkpoint keeps, of all processes: numbers without padding, but the scales of every process."""
        if processes == 1 or not (self.block and tensor.numel >= self.small):
            return self.num_bytes(tensor, tensor.numel, element)
        return MOMENTS * (tensor.numel + 4 * processes * -(-local // self.block)) + STEP_BYTES

    def _moments(self, whole: int, local: int, element: int) -> int:
        if self.block and whole >= self.small:
            return MOMENTS * (local + 4 * -(-local // self.block))
        return MOMENTS * (self.width or element) * local


@dataclass(frozen=True, kw_only=True, slots=True)
class Manner:
    """How a stage trains."""

    states: States = States()
    update: Literal["together", "per_layer"] = "together"
    """All weights after the backward pass, or each inside it."""

    activations: Literal["keep", "recompute"] = "keep"
    """Blocks keep all that backward needs, or their input."""

    reduce: Literal["micro", "update"] = "micro"
    """When several processes add up gradients: after each micro-batch or once an update."""
