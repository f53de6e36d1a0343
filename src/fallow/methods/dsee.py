"""DSEE: fine-tune a frozen model by a low-rank update and a few single entries."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from fallow.errors import UserError
from fallow.linear import Base, Chosen, LowRank, Site, Terms
from fallow.linear.roles import Role
from fallow.methods.adapted import adapted_rows, is_whole, trained_terms
from fallow.methods.base import KeepsUpdate, Method, SelectsSupports
from fallow.methods.lora import check_update
from fallow.random import Key
from fallow.supports import Choice


@dataclass(frozen=True, kw_only=True, slots=True)
class DSEE(Method, KeepsUpdate, SelectsSupports):
    r"""Dually sparse fine-tuning (Chen et al., ACL 2023, arXiv 2111.00160): the update, before anything is pruned.

        W = W0 + (alpha / rank) * (U V + S)

    with W0 (d_out, d_in) frozen, U V of rank `rank` (the factors B and A of the layer), and S with `entries` entries on
    a support that is chosen once, from W0. A starts random, B and S at zero, so training begins at W0. Queries and
    values are adapted, each with factors and entries of its own also inside GPT-2's fused `c_attn`; nothing else is
    trained but a task's new head. S is a vector of `entries` values; no matrix of zeros and no mask exists.

    The paper then prunes W0 by the size of the update and tunes on; see `fallow.pruning`.

    >>> from torch import nn
    >>> from fallow import convert, count
    >>> block = nn.ModuleDict({"q_proj": nn.Linear(64, 64), "k_proj": nn.Linear(64, 64), "v_proj": nn.Linear(64, 64)})
    >>> model = nn.Sequential(nn.ModuleList([block]))
    >>> report = convert(model, "dsee", rank=4, entries=16)
    >>> count(model).trainable - 2 * 4 * (64 + 64)
    32

    Differs from the released code: S has no dense matrix (it costs 226 MB on BERT-base there, for 384 numbers); the
    support solves the paper's equation 1 (support: released for what the code does instead); in GPT-2 the support is
    that of the weight, not of its transpose. A starts Kaiming-uniform, where the code has a normal of deviation 0.02:
    the same spread at width 768. Differs from the paper: nothing.
    """

    name: ClassVar[str] = "dsee"

    rank: int
    """Width of U V: 16 or 8 in the paper's BERT runs, 4 or 2 in those of GPT-2."""

    entries: int = 16
    """Entries of S in each matrix; the paper searched 8 to 256 and takes 16."""

    alpha: float = 32.0
    """Scale of the update, divided by the rank: 2 times the update at rank 16, 8 times at rank 4."""

    modules: tuple[Role, ...] = ("q", "v")
    """Which projections of attention get an update: q, k, v, o. Empty: every target layer as a whole."""

    dropout: float = 0.0
    """Share of the inputs of A that is dropped in training: 0.1 in the GPT-2 runs, none in those of BERT."""

    support: Choice = "decomposition"
    """How the entries of S are chosen: decomposition (the paper's equation 1), released (as the released code really
    chooses them), magnitude (the largest of W0), random, gradient (the largest squared gradients)."""

    scaled: Literal["update", "factors"] = "update"
    """What alpha / rank multiplies: the whole update (the released code), or the factors alone."""

    values: Literal["trained", "frozen"] = "trained"
    """Whether S is trained. Frozen in retraining is what the authors' GPT-2 code does, the paper trains it."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        Method.__post_init__(self)
        check_update(self.rank, self.alpha, self.dropout)
        if self.entries < 1:
            raise UserError(f"entries is {self.entries}, but it must be at least 1. Without entries it is method lora")

    @property
    def needs_gradients(self) -> bool:
        """For `support: gradient`."""
        return self.support == "gradient"

    def plan(self, sites: Mapping[str, Site], key: Key) -> dict[str, Terms]:
        """A frozen base, factors and a few entries."""
        plan = {}
        for name, rows in adapted_rows(sites, self.modules).items():
            site, own = sites[name], key.child(name)
            for first, last in rows:
                if self.entries > (last - first) * site.shape[1]:
                    raise UserError(
                        f"entries is {self.entries:,}, but {name} has only {(last - first) * site.shape[1]:,} in "
                        f"{last - first} x {site.shape[1]}. 16 is usual"
                    )
            plan[name] = Terms(
                base=Base(trainable=False),
                low_rank=LowRank(
                    rank=self.rank,
                    alpha=self.alpha,
                    key=own,
                    rows=() if is_whole(rows, site) else rows,
                    dropout=self.dropout,
                ),
                sparse=Chosen(
                    choice=self.support,
                    entries=self.entries,
                    rank=self.rank,
                    key=own.child("entries"),
                    rows=rows,
                    factor=self.alpha / self.rank if self.scaled == "update" else 1.0,
                ),
            )
        return plan

    def trainable(self, names: Iterable[str]) -> set[str]:
        """Factors and entries, and the head of a task."""
        found = trained_terms(names)
        return found if self.values == "trained" else {name for name in found if not name.endswith(".values")}
