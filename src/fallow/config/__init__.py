"""Settings: frozen dataclasses written as YAML, strictly read, changed by dotted keys, dumped in one canonical form."""

from fallow.config.bounds import MOST, Natural, Positive, Within, check_bounds
from fallow.config.choices import Choices
from fallow.config.decode import Words, check, from_dict, load
from fallow.config.describe import Leaf, leaves, type_name
from fallow.config.difference import difference, flatten
from fallow.config.document import parse, read, write
from fallow.config.encode import dump, to_dict
from fallow.config.fields import field_docs
from fallow.config.overrides import Override, apply_overrides, parse_flags
from fallow.config.schema import json_schema

__all__ = [
    "MOST",
    "Choices",
    "Leaf",
    "Natural",
    "Override",
    "Positive",
    "Within",
    "Words",
    "apply_overrides",
    "check",
    "check_bounds",
    "difference",
    "dump",
    "field_docs",
    "flatten",
    "from_dict",
    "json_schema",
    "leaves",
    "load",
    "parse",
    "parse_flags",
    "read",
    "to_dict",
    "type_name",
    "write",
]
