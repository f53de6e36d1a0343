"""Methods: each one chooses terms, and is one file."""

from fallow.methods.base import Method
from fallow.methods.dense import Dense
from fallow.methods.registry import method_of, registry
from fallow.methods.sparse import Sparse

__all__ = ["Dense", "Method", "Sparse", "method_of", "registry"]
