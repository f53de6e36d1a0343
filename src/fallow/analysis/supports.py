"""Which entries two weights have in common: overlap of what is not zero."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Overlap:
    """Counts of entries that are not zero in a, in b, in both; of `size` entries."""

    size: int
    nonzero_a: int
    nonzero_b: int
    both: int

    @property
    def either(self) -> int:
        """Entries that are not zero in at least one of the two."""
        return self.nonzero_a + self.nonzero_b - self.both

    @property
    def jaccard(self) -> float | None:
        """Both over either, from 0 (disjoint) to 1 (the same support); None when all is zero."""
        return self.both / self.either if self.either else None

    @property
    def chance(self) -> float | None:
        """The Jaccard index that two random supports of these densities have: p q / (p + q - p q)."""
        p, q = self.nonzero_a / self.size, self.nonzero_b / self.size
        return p * q / (p + q - p * q) if p or q else None

    @property
    def share_a(self) -> float | None:
        """Share of a's entries that b has too."""
        return self.both / self.nonzero_a if self.nonzero_a else None

    @property
    def share_b(self) -> float | None:
        """Share of b's entries that a has too."""
        return self.both / self.nonzero_b if self.nonzero_b else None

    def __add__(self, other: "Overlap") -> "Overlap":
        return Overlap(
            self.size + other.size,
            self.nonzero_a + other.nonzero_a,
            self.nonzero_b + other.nonzero_b,
            self.both + other.both,
        )


def overlap(a: Tensor, b: Tensor) -> Overlap:
    """Compare the supports of two tensors of the same shape; an entry exists when it is not exactly zero.

    >>> import torch
    >>> found = overlap(torch.tensor([1.0, 2.0, 0.0, 0.0]), torch.tensor([0.0, 3.0, 4.0, 0.0]))
    >>> found.both, found.either, round(found.jaccard, 3), round(found.chance, 3)
    (1, 3, 0.333, 0.333)
    """
    in_a, in_b = a != 0, b != 0
    return Overlap(a.numel(), int(in_a.sum()), int(in_b.sum()), int((in_a & in_b).sum()))
