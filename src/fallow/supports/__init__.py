"""Which entries of a weight exist: kinds of support, how they are drawn, their compact form, densities by layer."""

from fallow.supports.choices import Choice, choose
from fallow.supports.densities import DISTRIBUTIONS, layer_densities
from fallow.supports.kinds import Block, Kind, NofM, Transposable, Uniform, Vector, kind_of
from fallow.supports.support import Support

__all__ = [
    "DISTRIBUTIONS",
    "Block",
    "Choice",
    "Kind",
    "NofM",
    "Support",
    "Transposable",
    "Uniform",
    "Vector",
    "choose",
    "kind_of",
    "layer_densities",
]
