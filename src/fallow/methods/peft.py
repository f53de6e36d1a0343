"""Baselines that PEFT has: prefix tuning, P-tuning v2, IA3."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from fallow.errors import UserError, unknown
from fallow.linear import Site, Terms
from fallow.methods.adapted import is_head
from fallow.methods.base import AttachesModules, Method, ParamOverride, WritesExtraFiles
from fallow.random import Key
from fallow.tuners.adapter import save_adapter
from fallow.tuners.prefix import NAME, attach_prefix
from fallow.tuners.scales import SCALES, attach_scales, merge_scales

ADAPTER = "adapter"
"""Folder beside the model's files that stock PEFT loads."""

KINDS = ("prefix", "p_tuning_v2", "ia3")

_TOKENS, _HIDDEN = 20, 512


@dataclass(frozen=True, kw_only=True, slots=True)
class Peft(Method, AttachesModules, WritesExtraFiles):
    r"""Tune a frozen model by what PEFT (extra `hf`) puts beside its weights; the baselines of LoRA and DSEE.

    `prefix` (Li and Liang, 2021, arXiv 2101.00190) and `p_tuning_v2` (Liu et al., 2022, arXiv 2110.07602) train keys
    and values of virtual tokens, which every block sees before those of the text:

        attention(q, [P_k ; k], [P_v ; v])

    with P_k, P_v (tokens, width of the keys) of each block. `prefix` draws them from a small network, P = MLP(E) with
    `hidden` units, which is trained with them and left behind; `p_tuning_v2` trains them as they are. `ia3` (Liu et
    al., 2022, arXiv 2205.05638) multiplies keys, values and the inner units of the MLP by trained vectors, on the
    layers that PEFT names for the type of model; in GPT-2's fused layer the queries, too.

    Nothing else is trained but a task's new head. A prefix is no weight and cannot be merged: the stage's model keeps
    it apart, for `fallow.load`. `ia3` merges exactly. The folder `adapter` in the model's folder is a stock one of
    PEFT.

    >>> Peft(kind="p_tuning_v2", tokens=8).tokens
    8

    PEFT has no bottleneck adapters (Houlsby et al., 2019, arXiv 1902.00751), so `kind: adapter` is refused. Differs
    from PEFT: where texts are padded on the left, positions begin behind the prefix; PEFT counts the padding.
    """

    name: ClassVar[str] = "peft"

    kind: str
    """`prefix`, `p_tuning_v2` or `ia3`."""

    tokens: int = _TOKENS
    """Virtual tokens of a prefix. They take places among the model's positions, and time in every attention. Hard tasks
    want more: up to 100 in the paper of P-tuning v2."""

    hidden: int = _HIDDEN
    """Units of the network of kind `prefix`: 512 in its paper for data-to-text, 800 for summaries."""

    def __post_init__(self) -> None:
        """Check the kind, and that the others have an effect with it."""
        Method.__post_init__(self)
        if self.kind in ("adapter", "adapters", "houlsby", "bottleneck"):
            raise UserError(
                f"kind is {self.kind}, but PEFT has no bottleneck adapters (Houlsby et al., 2019). What it has that "
                "changes hidden states by few numbers is kind: ia3"
            )
        if self.kind not in KINDS:
            raise unknown("kind", self.kind, KINDS)
        for key, usual, kinds in (("tokens", _TOKENS, KINDS[:2]), ("hidden", _HIDDEN, KINDS[:1])):
            value = getattr(self, key)
            if value < 1:
                raise UserError(f"{key} is {value}, but it must be at least 1. {usual} is usual")
            if value != usual and self.kind not in kinds:
                raise UserError(f"{key} has no effect with kind {self.kind}. Remove it, or write kind: {kinds[-1]}")

    @property
    def mergeable(self) -> bool:
        """Keys and values of tokens that no text has are no part of a weight."""
        return self.kind == "ia3"

    def plan(self, sites: Mapping[str, Site], key: Key) -> dict[str, Terms]:
        """No terms: the stock layers stay."""
        return {}

    def trainable(self, names: Iterable[str]) -> set[str]:
        """What PEFT puts beside the weights, and the head of a task."""
        return {name for name in names if name.startswith(f"{NAME}.") or SCALES in name or is_head(name)}

    def attach(self, model: nn.Module, key: Key) -> str:
        """Put PEFT's part on the model; drawn from the key alone."""
        before = {id(parameter): parameter.requires_grad for parameter in model.parameters()}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(key.child(NAME).words(1)[0] >> 1))
            if self.kind == "ia3":
                attach_scales(model)
            else:
                attach_prefix(model, tokens=self.tokens, hidden=self.hidden if self.kind == "prefix" else 0)
        for parameter in model.parameters():
            parameter.requires_grad_(before.get(id(parameter), True))  # PEFT freezes all else: that is for `trained`
        num = sum(parameter.numel() for parameter in model.parameters() if id(parameter) not in before)
        return f"{self.kind} of PEFT: {num:,} trained parameters beside a frozen model"

    def detach(self, model: nn.Module) -> nn.Module:
        """Multiply the vectors into the weights."""
        merge_scales(model)
        return model

    def param_overrides(self, model: nn.Module) -> dict[str, ParamOverride]:
        """Vectors that scale are no matrices, whatever their shape: without decay they stay near one."""
        return {n: ParamOverride(weight_decay=False) for n, _ in model.named_parameters() if SCALES in n}

    def write_extra_files(self, model: nn.Module, folder: Path) -> None:
        """The folder for PEFT."""
        save_adapter(model, folder / ADAPTER, {name for name, _ in model.named_parameters() if is_head(name)})
