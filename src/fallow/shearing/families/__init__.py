"""The architectures that can be sheared: one file each."""

from typing import Any

from fallow.errors import UserError, nearest
from fallow.shearing.families.family import Family, check_target
from fallow.shearing.families.gemma import GEMMA
from fallow.shearing.families.gpt2 import GPT2
from fallow.shearing.families.gpt_neox import GPT_NEOX
from fallow.shearing.families.llama import LLAMA
from fallow.shearing.families.mistral import MISTRAL
from fallow.shearing.families.opt import OPT
from fallow.shearing.families.qwen2 import QWEN2
from fallow.shearing.families.qwen3 import QWEN3

__all__ = ["FAMILIES", "Family", "check_target", "family_of"]

FAMILIES: dict[str, Family] = {
    family.model_type: family for family in (LLAMA, MISTRAL, QWEN2, QWEN3, GEMMA, GPT_NEOX, GPT2, OPT)
}
"""By model type. A new one is one line here."""


def family_of(config: Any) -> Family:
    """The family of a transformers configuration (or of anything with its `model_type`).

    Raises:
        UserError: nothing is known about it; names the families that are.
    """
    model_type = str(getattr(config, "model_type", ""))
    if model_type not in FAMILIES:
        close = nearest(model_type, FAMILIES)
        hint = f" The nearest family that can be is {close}." if close else ""
        raise UserError(
            f"{model_type or type(config).__name__} cannot be sheared: fallow does not know where its heads and units "
            f"sit.{hint} Known: {', '.join(sorted(FAMILIES))}"
        )
    return FAMILIES[model_type]
