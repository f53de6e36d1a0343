"""The sizes of a decoder that shearing can change."""

from dataclasses import dataclass, replace
from typing import Literal

Axis = Literal["layers", "hidden", "heads", "inner"]
"""What can be cut: whole layers, channels of the residual stream, attention heads, units of the MLP."""

AXES: tuple[Axis, ...] = ("layers", "hidden", "heads", "inner")


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """Sizes of a decoder with the same sizes in every layer.

    >>> Shape(layers=32, hidden=4096, heads=32, kv_heads=8, head_size=128, inner=14336).group
    4
    """

    layers: int
    """Transformer blocks."""

    hidden: int
    """Channels of the residual stream."""

    heads: int
    """Query heads of a layer."""

    kv_heads: int
    """Heads of keys and values; fewer than `heads` under grouped queries."""

    head_size: int
    """Width of a head. Shearing inherits it: rotary positions and norms of queries live inside a head."""

    inner: int
    """Units of the MLP."""

    @property
    def group(self) -> int:
        """Query heads that share one head of keys and values."""
        return self.heads // self.kv_heads

    def changed(self, to: "Shape") -> tuple[Axis, ...]:
        """The axes that differ; heads of both kinds are one axis.

        >>> shape = Shape(layers=2, hidden=8, heads=2, kv_heads=2, head_size=4, inner=16)
        >>> shape.changed(shape.with_sizes(inner=8, layers=1))
        ('layers', 'inner')
        """
        differs = {axis: getattr(self, axis) != getattr(to, axis) for axis in AXES}
        differs["heads"] = differs["heads"] or self.kv_heads != to.kv_heads
        return tuple(axis for axis in AXES if differs[axis])

    def with_sizes(self, **sizes: int) -> "Shape":
        """The same shape with other sizes."""
        return replace(self, **sizes)

    def __str__(self) -> str:
        grouped = f" on {self.kv_heads} of keys and values" if self.kv_heads != self.heads else ""
        heads = f"{self.heads} heads of {self.head_size}{grouped}"
        return f"{self.layers} layer{'s' * (self.layers > 1)}, hidden {self.hidden}, {heads}, inner {self.inner}"
