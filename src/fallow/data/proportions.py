"""The shares of a mixture, and how they follow the losses of its domains (dynamic batch loading).

Shapes: k = domains.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fallow.errors import UserError, nearest

Array = NDArray[np.float64]


class Proportions(Protocol):
    """The share of each domain in the samples to come, which validations may move."""

    @property
    def shares(self) -> Array:
        """(k,), at least 0, with sum 1, in the order of the mixture's sources."""
        ...

    @property
    def identity(self) -> Any:
        """What decides how the shares move, as JSON values; None when they never do."""
        ...

    def observe(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Take in a validation (`loss/DOMAIN`); returns what there is to say about each domain."""
        ...

    def state_dict(self) -> dict[str, float]:
        """The share of each domain by name, when they move."""
        ...

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Back to what `state_dict` said."""
        ...


class Fixed:
    """Shares that stay as they are.

    Args:
        weights: of each source, relative to the others.
    """

    identity = None

    def __init__(self, weights: Sequence[float]) -> None:
        self.shares = _normal(np.array(weights, dtype=np.float64))

    def observe(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Nothing moves and nothing is said."""
        return {}

    def state_dict(self) -> dict[str, float]:
        """Nothing to keep."""
        return {}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Nothing was kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    r"""How a share w_i answers the gap between a domain's loss and its reference.

        gap_i  = max(loss_i - reference_i, lowest_gap)
        u_i    = w_i exp(step_size gap_i) / sum_j w_j exp(step_size gap_j)
        w_i'   = (1 - floor) u_i + floor / k,    then at most `ceiling` times the share at the start

    A domain without a loss keeps its share before smoothing; the others move within the rest.

    Source: Xia et al., 2024, Sheared LLaMA (arXiv 2310.06694), algorithm 1. Differs from the paper: nothing with the
    preset `paper`. Its released code does not raise gaps to 0 and smooths with 1e-4, which is preset `released`.

    >>> RULES["paper"].follow([0.5, 0.5], [0.5, 0.5], [3.0, 2.0], [2.0, 2.5]).round(3).tolist()
    [0.731, 0.269]
    """

    lowest_gap: float
    """0: a domain that is better than its reference counts as on it. -inf: it gives its share away."""

    step_size: float
    """How strongly a gap acts. The shares integrate: a constant excess gap g multiplies a domain's odds by
    exp(step_size * g) at each validation, so with many validations a large step runs away."""

    floor: float
    """Share that is spread evenly over all domains after each move, so that none is lost for good."""

    ceiling: float
    """No share exceeds this multiple of its start; inf for no such bound."""

    def follow(
        self,
        shares: Sequence[float] | Array,
        start: Sequence[float] | Array,
        losses: Sequence[float],
        references: Sequence[float],
    ) -> Array:
        """The next shares.

        Args:
            shares: now, (k,), sum 1.
            start: of the run, (k,), sum 1.
            losses: nats a token, (k,); nan for a domain that was not measured.
            references: the losses aimed at, (k,).
        """
        now, loss = np.array(shares, dtype=np.float64), np.array(losses, dtype=np.float64)
        seen = np.isfinite(loss) & (now > 0)
        moved = now.copy()
        if seen.any():
            gap = np.maximum(loss[seen] - np.array(references, dtype=np.float64)[seen], self.lowest_gap)
            logit = np.log(now[seen]) + self.step_size * gap
            grown = np.exp(logit - logit.max())
            moved[seen] = now[seen].sum() * grown / grown.sum()
        smooth = (1.0 - self.floor) * moved + self.floor / len(moved)
        return _capped(_normal(smooth), self.ceiling * np.array(start, dtype=np.float64))


RULES = {
    "paper": Rule(lowest_gap=0.0, step_size=1.0, floor=0.0, ceiling=math.inf),
    "released": Rule(lowest_gap=-math.inf, step_size=1.0, floor=1e-4, ceiling=math.inf),
    "stable": Rule(lowest_gap=0.0, step_size=0.1, floor=1e-3, ceiling=4.0),
}
"""The rules by name. `stable` is ours: small steps, a thousandth is spread evenly, none grows more
than fourfold."""


class Following:
    """Shares that follow the losses.

    Args:
        names: of the domains, in the order of the mixture's sources.
        weights: their shares at the start, relative to each other.
        rule: see `Rule`.
        references: the loss aimed at, for each domain, in nats a token.

    Raises:
        UserError: references for other domains than these.
    """

    def __init__(
        self, names: Sequence[str], weights: Sequence[float], rule: Rule, references: Mapping[str, float]
    ) -> None:
        check_references(references, names)
        self.names, self.rule = tuple(names), rule
        self.references = [float(references[name]) for name in names]
        self.start = _normal(np.array(weights, dtype=np.float64))
        self.shares = self.start.copy()

    @property
    def identity(self) -> Any:
        """The rule, the references and the shares at the start."""
        rule = {key: str(value) for key, value in asdict(self.rule).items()}  # infinity is no JSON
        return [rule, self.references, self.start.tolist()]

    def observe(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Move the shares; says reference, gap and share of each domain, now and at the start.

        What was not measured has no gap.
        """
        whole = metrics["loss"] if len(self.names) == 1 else math.nan
        losses = [metrics.get(f"loss/{name}", whole) for name in self.names]
        self.shares = self.rule.follow(self.shares, self.start, losses, self.references)
        said: dict[str, float] = {}
        facts = zip(self.names, losses, self.references, self.start, self.shares, strict=True)
        for name, loss, reference, start, share in facts:
            said |= {f"reference/{name}": reference, f"start/{name}": float(start)}
            if math.isfinite(loss):
                said[f"gap/{name}"] = loss - reference
            said[f"share/{name}"] = float(share)
        return said

    def state_dict(self) -> dict[str, float]:
        """The share of each domain."""
        return dict(zip(self.names, self.shares.tolist(), strict=True))

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Back to these shares, bit for bit."""
        self.shares = np.array([state[name] for name in self.names], dtype=np.float64)


def check_references(references: Mapping[str, float], names: Sequence[str]) -> None:
    """Refuse reference losses that are not one finite number for each domain.

    Raises:
        UserError: names the domain that lacks one, or the one that does not exist.
    """
    for name in references:
        if name not in names:
            close = nearest(name, names)
            raise UserError(
                f"the reference losses hold {name}, which is no domain of the data. "
                + (f"Did you mean {close}?" if close else f"Domains: {', '.join(names)}.")
            )
    for name in names:
        if name not in references:
            raise UserError(f"the reference losses lack {name}. Give one for each domain: {', '.join(names)}.")
        if not math.isfinite(references[name]):
            raise UserError(f"the reference loss of {name} is {references[name]}, but it must be a finite number.")


def _normal(weights_k: Array) -> Array:
    normal: Array = weights_k / weights_k.sum()
    return normal


def _capped(shares_k: Array, most_k: Array) -> Array:
    """Shares cut to their bounds, what was cut given to the others in proportion; sum 1."""
    capped = np.zeros(len(shares_k), dtype=bool)
    shares = shares_k
    while (over := (shares > most_k) & ~capped).any():
        capped |= over
        if capped.all():
            return _normal(most_k)
        rest = shares_k[~capped].sum()
        shares = np.where(capped, most_k, shares_k * (1.0 - most_k[capped].sum()) / rest if rest else shares_k)
    return shares
