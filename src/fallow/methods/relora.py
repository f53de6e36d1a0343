"""ReLoRA: low-rank updates of a kept weight that are merged into it and begun anew every so many steps."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from fallow.errors import UserError
from fallow.linear import Base, NoProduct, Site, Terms
from fallow.linear.shares import share_of, whole
from fallow.methods.base import Method, edit_optimizer_state, reparam_layers
from fallow.methods.factors import check_factors, factors_of, refuse_wide
from fallow.random import Key


@dataclass(frozen=True, kw_only=True, slots=True)
class ReLoRA(Method):
    r"""High-rank training through low-rank updates (Lialin et al., ICLR 2024, arXiv 2307.05695).

    A target weight is its initial value W0, which is kept and gets no gradient, plus factors:

        W = W0 + (alpha / rank) * B @ A

    After every `every` updates, number n of them: W0 takes up the product, A is drawn again (from the key and n), B is
    zero, most of what the optimizer remembers of both is dropped, and the rate climbs from near zero back to the
    schedule over `warmup` updates. All of it is a function of the step, so that an interrupted run continues exactly.

    Full-rank warm start: a stage of method dense before this one, both on one curve with `schedule.after` and
    `schedule.before`.

    >>> method = ReLoRA(rank=8, every=100, warmup=4)
    >>> [method.lr_factor(step) for step in (0, 99, 100, 101, 104)]
    [1.0, 1.0, 0.2, 0.4, 1.0]

    Differs from the paper: nothing with the default settings. Differs from the released code: A is not set to zero at
    the first start (there both factors of a kept weight begin at zero and do not learn before the first merge); merging
    and pruning happen together, right after update n * every, where the code has two separate intervals and acts one
    update later; magnitude pruning keeps an exact share, also across processes.
    """

    name: ClassVar[str] = "relora"

    rank: int
    """Width of the factors; 128 in the paper. The sum of n restarts can have rank n * rank."""

    every: int
    """Updates between restarts: 5,000 in the paper, 1,000 in the released configuration of the 1B model."""

    alpha: float = 32.0
    """The product is scaled by alpha / rank; 32 in the released code."""

    warmup: int = 100
    """Updates over which the rate climbs back after a restart; 50 to 100 in the paper. 0: none."""

    prune: str = "magnitude:0.99"
    """What the optimizer forgets of the factors at a restart: `magnitude:SHARE`, the smallest entries of each moment
    (0.99 in the paper, 0.8 in the released configuration of the 1B model); `random:SHARE`, entries at random (0.999 is
    the released default); or `all`, also how often they were updated."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        Method.__post_init__(self)
        check_factors(self.rank, self.alpha, least=1)
        if self.every < 1:
            raise UserError(f"every is {self.every}, but it must be at least 1 update. The paper has 5000")
        if not 0 <= self.warmup < self.every:
            raise UserError(
                f"warmup is {self.warmup}, but it must be at least 0 and below every = {self.every}, or the rate would "
                f"never be back at the schedule. Write at most {self.every - 1}"
            )
        _pruning(self.prune)

    def plan(self, sites: Mapping[str, Site], key: Key) -> dict[str, Terms]:
        """A kept base and factors, everywhere."""
        refuse_wide(self.rank, sites)
        return {
            name: Terms(
                base=Base(trainable=False),
                low_rank=factors_of(site, self.rank, self.alpha, key.child(name), NoProduct()),
            )
            for name, site in sites.items()
        }

    def lr_factor(self, step: int) -> float:
        """min(1, (s + 1) / (warmup + 1)), s updates after a restart; 1 before the first."""
        since = step % self.every
        return 1.0 if step < self.every or since >= self.warmup else (since + 1) / (self.warmup + 1)

    @torch.no_grad()
    def after_step(self, model: nn.Module, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Merge, draw, prune, when it is time."""
        if step % self.every:
            return
        number = step // self.every
        for layer in reparam_layers(model).values():
            assert layer.terms.low_rank is not None
            layer.restart(number)
            key = layer.terms.low_rank.key.child(f"prune/{number}")
            for which, factor in (("a", layer.low_rank_a), ("b", layer.low_rank_b)):
                assert factor is not None
                self._forget(optimizer, factor, key.child(which))

    def _forget(self, optimizer: torch.optim.Optimizer, factor: nn.Parameter, key: Key) -> None:
        """Drop what is remembered of a factor, or the chosen share of each of its moments."""
        kind, share = _pruning(self.prune)
        if kind == "all":
            optimizer.state.pop(factor, None)
            return

        def prune(name: str, moment: Tensor) -> Tensor:
            by_size = kind == "magnitude"
            kept = _kept_by_size(whole(moment), share) if by_size else _kept_by_lot(moment, share, key.child(name))
            return moment * share_of(moment, kept)

        edit_optimizer_state(optimizer, factor, prune)


def _kept_by_size(moment: Tensor, share: float) -> Tensor:
    """Ones where a moment is kept: all but the smallest round(share * size) entries by magnitude."""
    size = moment.abs().float().flatten()
    dropped = round(share * size.numel())
    if not dropped:
        return torch.ones_like(moment)
    return (moment.abs().float() > size.kthvalue(dropped).values).to(moment)


def _kept_by_lot(moment: Tensor, share: float, key: Key) -> Tensor:
    """Ones where a moment is kept: each entry with chance 1 - share, the same on every process."""
    return (torch.from_numpy(key.uniform(moment.numel())) >= share).float().view(moment.shape)


def _pruning(text: str) -> tuple[str, float]:
    """The kind and share that `prune` names."""
    if text == "all":
        return "all", 1.0
    match = re.fullmatch(r"(magnitude|random):(\d*\.?\d+)", text)
    if match is None or not 0 < float(match[2]) < 1:
        raise UserError(
            f'prune is "{text}", but it must be all, magnitude:SHARE or random:SHARE with a share between 0 and 1, '
            "such as magnitude:0.99"
        )
    return match[1], float(match[2])
