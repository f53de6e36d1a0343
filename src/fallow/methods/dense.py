"""Dense training: the baseline, and the second phase of SPDF."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from fallow.linear import Site, Terms
from fallow.methods.base import Method, TransfersOptimizerState
from fallow.random import Key


@dataclass(frozen=True, kw_only=True, slots=True)
class Dense(Method, TransfersOptimizerState):
    """Ordinary training of every weight; no layer is touched.

    It is also SPDF's second phase (Thangarasa et al., 2023, arXiv 2303.10464): a merged sparse model is an ordinary
    dense model again, and its zeros get gradients like any other entry.

    >>> Dense().plan({}, Key(0))
    {}
    """

    name: ClassVar[str] = "dense"

    def plan(self, sites: Mapping[str, Site], key: Key) -> dict[str, Terms]:
        """No terms: the stock layers stay."""
        return {}
