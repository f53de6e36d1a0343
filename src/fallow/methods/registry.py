"""The methods by name."""

import dataclasses
from collections.abc import Mapping

from fallow.config.decode import Place, decode
from fallow.config.fields import hints_of
from fallow.errors import UserError, unknown
from fallow.methods.base import Method
from fallow.methods.bitfit import BitFit
from fallow.methods.cofi import CoFi
from fallow.methods.dense import Dense
from fallow.methods.dsee import DSEE
from fallow.methods.lora import LoRA
from fallow.methods.lowrank import LowRank
from fallow.methods.peft import Peft
from fallow.methods.relora import ReLoRA
from fallow.methods.shear import Shear
from fallow.methods.sltrain import SLTrain
from fallow.methods.sparse import Sparse
from fallow.methods.top import Top

registry: dict[str, type[Method]] = {
    "dense": Dense,
    "sparse": Sparse,
    "lowrank": LowRank,
    "sltrain": SLTrain,
    "relora": ReLoRA,
    "lora": LoRA,
    "dsee": DSEE,
    "bitfit": BitFit,
    "top": Top,
    "peft": Peft,
    "shear": Shear,
    "cofi": CoFi,
}
"""Name -> settings class. A new method is one line here."""


def method_of(name: str, **settings: object) -> Method:
    """The method of this name with these settings.

    Raises:
        UserError: no such method, or no such setting; names the nearest one.

    >>> method_of("sparse", sparsity=0.75).sparsity
    0.75
    """
    if name not in registry:
        raise unknown("method", name, registry)
    cls = registry[name]
    known = [field.name for field in dataclasses.fields(cls)]
    for setting in settings:
        if setting not in known:
            raise unknown(f"setting of method {name}", setting, known)
    required = [f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING]
    if missing := [setting for setting in required if setting not in settings]:
        raise UserError(f"method {name} needs {missing[0]}, for instance {name}, {missing[0]}=...")
    return cls(**{key: _setting(cls, key, value) for key, value in settings.items()})


def _setting(cls: type[Method], key: str, value: object) -> object:
    """A setting as JSON or a caller gives it: lists stand for tuples, mappings for settings within settings."""
    if isinstance(value, Mapping):
        return decode(hints_of(cls)[key], value, Place(key))
    return tuple(value) if isinstance(value, list) else value


def method_to_dict(method: Method) -> dict[str, object]:
    """Name and settings, as they stand in a recipe and in a saved folder."""
    return {"name": method.name, **dataclasses.asdict(method)}
