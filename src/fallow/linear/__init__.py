"""The one layer: a weight that is a sum of terms."""

from fallow.linear.inputs import Site, is_linear, linear_sites
from fallow.linear.reparam import ReparamLinear
from fallow.linear.terms import Base, LowRank, Sparse, Terms

__all__ = ["Base", "LowRank", "ReparamLinear", "Site", "Sparse", "Terms", "is_linear", "linear_sites"]
