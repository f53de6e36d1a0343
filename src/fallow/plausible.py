"""What the configuration of a model may ask for: looked at before anything is made of it, and tried without memory.

transformers takes what it is given: a million layers are then made one by one, and a dropout that is no number, no
positions, or heads of three entries are found out in the first step.
"""

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from fallow.errors import UserError, in_a_line

_MOST = {"layer": 1_000, "expert": 10_000}
"""Of what is made one by one. The deepest models have a hundred layers, the widest five hundred experts."""

_LARGEST = 2**31 - 1
_BLOCKS = 8
"""Of a model that are computed to try it: enough for one of each kind."""

_SIZE = re.compile(r"^(n|num|d|max)_|_(size|dim|dims|heads|layers)$|vocab|hidden")
_POSITIONS = ("n_positions", "max_position_embeddings", "n_ctx", "max_seq_len", "seq_length")
_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
_WITHOUT_MEMORY = re.compile(r"meta|Meta|FakeTensor|not implemented|mat_a|storage", re.ASCII)
"""In errors that say that an operation needs values, not that the model is wrong."""


def check_sizes(values: Mapping[str, Any], prefix: str = "") -> None:
    """Refuse numbers that no model has, in a configuration and in the ones inside it.

    Raises:
        UserError: names the key, its value, and what is allowed.

    >>> check_sizes({"model_type": "gpt2", "n_layer": 10**9})
    Traceback (most recent call last):
        ...
    fallow.errors.UserError: n_layer is 1000000000, but it must be at most 1,000.
    """
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            check_sizes(value, f"{name}.")
        for number in value if isinstance(value, list | tuple) else (value,):
            if isinstance(number, int | float) and not isinstance(number, bool):
                _check_number(str(key), name, number)


def _check_number(key: str, name: str, value: float) -> None:
    if isinstance(value, float) and (math.isnan(value) or (math.isinf(value) and "limit" not in key)):
        raise UserError(f"{name} is {value}, but it must be a finite number.")
    if isinstance(value, int) and not -_LARGEST <= value <= _LARGEST:
        raise UserError(f"{name} is {value}, but no number in a configuration is beyond {_LARGEST:,}.")
    most = next((limit for word, limit in _MOST.items() if word in key and not re.search("size|dim", key)), _LARGEST)
    if most < _LARGEST and value > most:
        raise UserError(f"{name} is {value}, but it must be at most {most:,}.")
    if "drop" in key and not 0 <= value <= 1:
        raise UserError(f"{name} is {value}, but it must be at least 0 and at most 1.")
    if key.endswith(("eps", "epsilon")) and value < 0:
        raise UserError(f"{name} is {value}, but it must be at least 0.")
    if (key in _POSITIONS or key == "vocab_size") and value < 1:
        raise UserError(f"{name} is {value}, but it must be at least 1.")
    if _SIZE.search(key) and value < 0 and key not in _IDS:
        raise UserError(f"{name} is {value}, but it must be at least 0.")


def check_ids(values: Mapping[str, Any], vocabulary: int) -> None:
    """Refuse special tokens that are not in the vocabulary.

    Args:
        values: of a configuration.
        vocabulary: number of tokens; 0 where it is not known.

    Raises:
        UserError: names the key, its value, and what is allowed.
    """
    size = values.get("vocab_size", vocabulary)
    for key in _IDS:
        given = values.get(key)
        for number in given if isinstance(given, list | tuple) else (given,):
            if number is None:
                continue
            if not isinstance(number, int) or isinstance(number, bool):
                raise UserError(f"{key} is {number}, but it must be the number of a token.")
            if isinstance(size, int) and size and not 0 <= number < size:
                raise UserError(
                    f"{key} is {number}, but the vocabulary has {size:,} tokens, numbered from 0. Leave it out to take "
                    "the tokenizer's own."
                )


def check_forward(model: Any) -> None:
    """Refuse a model on the meta device whose forward pass fails, such as by heads of an odd size.

    What needs values, and so cannot be known without memory, passes.

    Raises:
        UserError: says what transformers or torch says.
    """
    ids = torch.zeros(1, 2, dtype=torch.int64, device="meta")
    with torch.no_grad(), torch.device("meta"), _first_blocks(model):
        try:
            model(input_ids=ids)
        except NotImplementedError:
            return
        except Exception as error:  # model code of transformers raises many kinds
            if not _WITHOUT_MEMORY.search(str(error)):
                raise UserError(f"such a model cannot be computed: {in_a_line(error)}") from error


@contextmanager
def _first_blocks(model: nn.Module) -> Iterator[None]:
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    blocks = max(lists, key=lambda one: sum(p.numel() for p in one.parameters()), default=nn.ModuleList())
    later = list(blocks)[_BLOCKS:]
    del blocks[_BLOCKS:]
    try:
        yield
    finally:
        blocks.extend(later)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings of transformers: what is wrong is told by an error."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(before)
