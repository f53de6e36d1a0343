"""The one layer: a weight that is a sum of terms."""

from fallow.linear.inputs import Site, is_linear, linear_sites
from fallow.linear.reparam import ReparamLinear
from fallow.linear.starts import Drawn, FactorStart, FromWeight, NoProduct, Start, WholeWeight, Zeros
from fallow.linear.terms import Base, Chosen, LowRank, Sparse, Terms

__all__ = [
    "Base",
    "Chosen",
    "Drawn",
    "FactorStart",
    "FromWeight",
    "LowRank",
    "NoProduct",
    "ReparamLinear",
    "Site",
    "Sparse",
    "Start",
    "Terms",
    "WholeWeight",
    "Zeros",
    "is_linear",
    "linear_sites",
]
