"""The one layer: a weight that is a sum of terms."""

from fallow.linear.inputs import Site, is_linear, linear_sites
from fallow.linear.reparam import ReparamLinear
from fallow.linear.starts import Drawn, FromWeight, Start, Zeros
from fallow.linear.terms import Base, Chosen, LowRank, Sparse, Terms

__all__ = [
    "Base",
    "Chosen",
    "Drawn",
    "FromWeight",
    "LowRank",
    "ReparamLinear",
    "Site",
    "Sparse",
    "Start",
    "Terms",
    "Zeros",
    "is_linear",
    "linear_sites",
]
