"""LoRA: fine-tune a frozen model by a low-rank update of some of its matrices."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from fallow.errors import UserError
from fallow.linear import Base, LowRank, Site, Terms
from fallow.linear.roles import Role
from fallow.methods.adapted import adapted_rows, is_whole, trained_terms
from fallow.methods.base import KeepsUpdate, Method
from fallow.random import Key


@dataclass(frozen=True, kw_only=True, slots=True)
class LoRA(Method, KeepsUpdate):
    r"""Low-rank adaptation (Hu et al., 2022, arXiv 2106.09685).

        W = W0 + (alpha / rank) * B @ A

    with W0 (d_out, d_in) frozen, B (d_out, rank) and A (rank, d_in) trained. A starts Kaiming-uniform and B at zero, so
    training begins at W0. Of the rest of the model nothing is trained, but for a task's new head (`classifier`,
    `score`). Frozen weights have neither gradients nor optimizer states.

    By default queries and values are adapted, as in the paper; inside GPT-2's fused `c_attn` each of them has factors
    of its own and the keys have none.

    >>> from torch import nn
    >>> from fallow import convert, count
    >>> block = nn.ModuleDict({"q_proj": nn.Linear(64, 64), "k_proj": nn.Linear(64, 64), "v_proj": nn.Linear(64, 64)})
    >>> model = nn.Sequential(nn.ModuleList([block]))
    >>> report = convert(model, "lora", rank=4)
    >>> [layer.name for layer in report.converted], count(model).trainable
    (['0.0.q_proj', '0.0.v_proj'], 1024)

    Differs from the released code: the keys of a fused layer have no factors (the code's own MergedLinear does the
    same; PEFT shares A among the three and adapts the keys too). Differs from the paper: nothing.
    """

    name: ClassVar[str] = "lora"

    rank: int
    """Width of the factors: 4 in the paper's GPT-2 runs, 8 in those of RoBERTa. Costs (d_out + d_in) values each."""

    alpha: float = 32.0
    """Scale of the update, divided by the rank. 32 in the paper's GPT-2 runs: 8 times B A at rank 4."""

    modules: tuple[Role, ...] = ("q", "v")
    """Which projections of attention get an update: q, k, v, o. Empty: every target layer as a whole."""

    dropout: float = 0.0
    """Share of the inputs of A that is dropped in training. 0.1 in the paper's GPT-2 runs on E2E and WebNLG."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        Method.__post_init__(self)
        check_update(self.rank, self.alpha, self.dropout)

    def plan(self, sites: Mapping[str, Site], key: Key) -> dict[str, Terms]:
        """A frozen base and factors."""
        return {
            name: Terms(
                base=Base(trainable=False),
                low_rank=LowRank(
                    rank=self.rank,
                    alpha=self.alpha,
                    key=key.child(name),
                    rows=() if is_whole(rows, sites[name]) else rows,
                    dropout=self.dropout,
                ),
            )
            for name, rows in adapted_rows(sites, self.modules).items()
        }

    def trainable(self, names: Iterable[str]) -> set[str]:
        """The factors, and the head of a task."""
        return trained_terms(names)


def check_update(rank: int, alpha: float, dropout: float) -> None:
    """Refuse factors that make no sense.

    Raises:
        UserError: names the setting.
    """
    if rank < 1:
        raise UserError(f"rank is {rank}, but it must be at least 1")
    if alpha <= 0:
        raise UserError(f"alpha is {alpha:g}, but it must be above 0: it scales the update. Did you mean {2 * rank}?")
    if not 0 <= dropout < 1:
        hint = f". Did you mean {dropout / 100:g}?" if 1 < dropout < 100 else ""
        raise UserError(f"dropout is {dropout:g}, but it must be at least 0 and below 1{hint}")
