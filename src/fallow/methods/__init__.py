"""Methods: each one chooses terms, and is one file."""

from fallow.methods.base import Method
from fallow.methods.bitfit import BitFit
from fallow.methods.dense import Dense
from fallow.methods.dsee import DSEE
from fallow.methods.lora import LoRA
from fallow.methods.lowrank import LowRank
from fallow.methods.peft import Peft
from fallow.methods.registry import method_of, registry
from fallow.methods.relora import ReLoRA
from fallow.methods.sltrain import SLTrain
from fallow.methods.sparse import Sparse
from fallow.methods.top import Top

__all__ = [
    "DSEE",
    "BitFit",
    "Dense",
    "LoRA",
    "LowRank",
    "Method",
    "Peft",
    "ReLoRA",
    "SLTrain",
    "Sparse",
    "Top",
    "method_of",
    "registry",
]
