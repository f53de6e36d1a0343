"""The loss that a model of another size would have, from measured models of one family: what shearing aims at.

Losses are in nats a token. N is the full number of parameters, both embeddings included.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fallow.accounting.huber import Array, fit, power_sum
from fallow.errors import UserError
from fallow.random import Key

STEEPEST = 10.0
"""Largest exponent that is looked for; measured ones of language models lie below 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """A measured model, or one whose loss is asked for."""

    num_parameters: float
    num_tokens: float = 0.0
    """Tokens it was trained on; 0 when all models of the fit saw equally many."""

    loss: float = math.nan
    """Measured; not read where the loss is asked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Law:
    """loss = constant + scale / N ** exponent + token_scale / D ** token_exponent.

    >>> Law(constant=1.0, scale=10.0, exponent=0.5).loss(Point(num_parameters=100.0))
    2.0
    """

    constant: float
    """Without a token term it also holds what is lost by the common number of tokens."""

    scale: float
    exponent: float
    token_scale: float = 0.0
    token_exponent: float = 0.0

    def loss(self, point: Point) -> float:
        """The law's loss at a size (and number of tokens)."""
        tokens = self.token_scale * point.num_tokens**-self.token_exponent if self.token_scale else 0.0
        return float(self.constant + self.scale * point.num_parameters**-self.exponent + tokens)


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """A predicted loss with what noise in the measured ones does to it."""

    point: Point
    loss: float
    deviation: float
    """One standard deviation over refits with noise."""

    low: float
    high: float
    """Between them lie 95% of the refits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceFit:
    """A law, its predictions, and how far both can be trusted."""

    law: Law
    predictions: tuple[Prediction, ...]
    residuals: tuple[float, ...]
    """Law minus measurement at each point; zero by construction for three models."""

    noise: float
    """Standard deviation of the noise that the intervals assume: what was given, or what the residuals show if more."""

    unsolved: float
    """Share of the refits that no law fits; they are left out of the intervals."""

    remarks: tuple[str, ...]
    """What is doubtful about the fit; empty when nothing is."""


def fit_three(points: Sequence[Point]) -> Law:
    r"""The law through three models that saw equally many tokens, in closed form up to one root.

    With L(N) = A N ** -a + C and N1 < N2 < N3,

        (L1 - L2) / (L2 - L3)  =  (N1 ** -a - N2 ** -a) / (N2 ** -a - N3 ** -a)

    has one unknown; its right side rises with a from ln(N2 / N1) / ln(N3 / N2), so bisection finds the only root. A and
    C follow. No starting point is needed. This is the fit of Sheared LLaMA (Xia et al., 2024, arXiv 2310.06694).

    Differs from the released code: it minimises squares from a Chinchilla start, with the same result.

    Raises:
        UserError: not three models of different sizes, or no power law goes through them.
    """
    ordered = _ordered(points)
    if len(ordered) != 3:
        raise UserError(f"{len(ordered)} models are given, but the closed form takes three. With five or more, fit_law")
    if len({p.num_tokens for p in ordered}) > 1:
        raise UserError(
            "the three models saw different numbers of tokens; size and tokens cannot be told apart with three. "
            "Give models of equal tokens, or five or more"
        )
    logs = np.log([p.num_parameters for p in ordered])
    exponent, scale, constant = (float(v[0]) for v in _solve_three(logs, np.array([[p.loss for p in ordered]])))
    if math.isnan(exponent):
        raise UserError(_why_no_root(ordered, logs))
    return Law(constant=constant, scale=scale, exponent=exponent)


def fit_law(points: Sequence[Point]) -> Law:
    r"""The law of five or more models: least Huber loss on the logarithm, best of a grid of starts.

        loss = E + A / N ** alpha + B / D ** beta        with E, A, B, alpha, beta > 0

    in the form and with the loss of Hoffmann et al. (2022, arXiv 2203.15556, appendix D.2). Without token counts, or
    with the same one everywhere, the last term is part of E.

    Raises:
        UserError: fewer than five models.
    """
    if len(points) < 5:
        raise UserError(f"{len(points)} models are given, but this fit takes five or more. With three, fit_three")
    ordered = _ordered(points)
    theta, _ = _best(ordered)
    return _law(theta)


def fit_reference(
    points: Sequence[Point], targets: Sequence[Point], *, noise: float = 0.005, draws: int = 1000, seed: int = 0
) -> ReferenceFit:
    """Fit the law of a family and predict losses of other sizes, with error bars. One domain at a time.

    Three models are fitted exactly, five or more robustly. The error bars come from refits to the law's own losses plus
    noise. Three points leave no slack, so they say nothing about their own noise: it is taken as given.

    Args:
        points: measured models of one family.
        targets: sizes (and tokens) to predict.
        noise: standard deviation of a measured loss in nats, independent between models. 0.005 is usual between
            evaluations on a few million tokens.
        draws: number of refits.
        seed: of the noise.

    Raises:
        UserError: too few models, or losses that the law cannot describe.
    """
    ordered = _ordered(points)
    if len(ordered) != 3 and len(ordered) < 5:
        raise UserError(f"{len(ordered)} models are given, but the fit takes three, or five and more")
    if not noise > 0 or draws < 20:
        raise UserError(f"noise is {noise} and draws {draws}, but noise must be above 0 and draws at least 20")
    exact = len(ordered) == 3
    law = fit_three(ordered) if exact else fit_law(ordered)
    residuals = tuple(law.loss(p) - p.loss for p in ordered)
    free = len(ordered) - (5 if law.token_scale else 3)
    seen = math.sqrt(sum(r * r for r in residuals) / free) if free > 0 else 0.0
    spread = max(noise, seen)
    laws = _refits(ordered, law, spread, draws, seed)
    predictions = []
    for target in targets:
        values = np.array([one.loss(target) for one in laws])
        low, high = np.quantile(values, [0.025, 0.975])
        predictions.append(
            Prediction(
                point=target,
                loss=law.loss(target),
                deviation=float(values.std(ddof=1)),
                low=float(low),
                high=float(high),
            )
        )
    unsolved = 1 - len(laws) / draws
    return ReferenceFit(
        law=law,
        predictions=tuple(predictions),
        residuals=residuals,
        noise=spread,
        unsolved=unsolved,
        remarks=tuple(_remarks(law, ordered, targets, residuals, noise, unsolved)),
    )


def _ordered(points: Sequence[Point]) -> list[Point]:
    for point in points:
        if not (point.num_parameters > 0 and point.loss > 0 and math.isfinite(point.loss)):
            raise UserError(
                f"a model has {point.num_parameters:g} parameters and loss {point.loss}, but both must be above 0"
            )
    ordered = sorted(points, key=lambda p: (p.num_parameters, p.num_tokens))
    places = [(p.num_parameters, p.num_tokens) for p in ordered]
    double = next((place for place in places if places.count(place) > 1), None)
    if double is not None:
        raise UserError(f"two models have {double[0]:,.0f} parameters (and equal tokens). Give their mean loss once")
    return ordered


def _solve_three(logs: Array, losses_s3: Array) -> tuple[Array, Array, Array]:
    """Exponent, scale and constant of each row of losses; NaN where there is no root."""
    first, second = logs[1] - logs[0], logs[2] - logs[1]
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        ratio = (losses_s3[:, 0] - losses_s3[:, 1]) / (losses_s3[:, 1] - losses_s3[:, 2])
        low, high = np.full(len(ratio), 1e-9), np.full(len(ratio), STEEPEST)

        def side(a: Array) -> Array:
            value: Array = np.expm1(a * first) / -np.expm1(-a * second)
            return value

        falls = (losses_s3[:, 0] > losses_s3[:, 1]) & (losses_s3[:, 1] > losses_s3[:, 2])
        solvable = falls & (ratio > side(low)) & (ratio < side(high))
        for _ in range(100):
            middle = 0.5 * (low + high)
            above = side(middle) > ratio
            low, high = np.where(above, low, middle), np.where(above, middle, high)
        exponent = np.where(solvable, 0.5 * (low + high), np.nan)
        scale = (losses_s3[:, 0] - losses_s3[:, 1]) / (np.exp(-exponent * logs[0]) - np.exp(-exponent * logs[1]))
        constant = losses_s3[:, 0] - scale * np.exp(-exponent * logs[0])
    return exponent, scale, constant


def _why_no_root(ordered: Sequence[Point], logs: Array) -> str:
    losses = [p.loss for p in ordered]
    shown = ", ".join(f"{loss:.4f}" for loss in losses)
    if not losses[0] > losses[1] > losses[2]:
        return f"the losses {shown} do not fall with size, so they follow no power law. Check which model is which"
    most = (losses[0] - losses[1]) / ((logs[1] - logs[0]) / (logs[2] - logs[1]))
    if losses[1] - losses[2] >= most:
        return (
            f"no power law goes through the losses {shown}: from the second model to the third they fall by "
            f"{losses[1] - losses[2]:.4f}, but a law that falls by {losses[0] - losses[1]:.4f} from the first to the "
            f"second allows less than {most:.4f}. Use more models, or the source model's own loss as reference"
        )
    return (
        f"no power law with an exponent below {STEEPEST:g} goes through the losses {shown}: they hardly fall from the "
        "second model to the third. Use more models, or the source model's own loss as reference"
    )


def _axes(ordered: Sequence[Point]) -> list[Array]:
    axes = [np.log([p.num_parameters for p in ordered])]
    tokens = {p.num_tokens for p in ordered}
    if len(tokens) > 1:
        if min(tokens) <= 0:
            raise UserError("some models have num_tokens and others have not. Give it for all of them or for none")
        axes.append(np.log([p.num_tokens for p in ordered]))
    return axes


def _best(ordered: Sequence[Point]) -> tuple[Array, Array]:
    """The best theta over the grid of starts, and the measured log-losses."""
    axes = _axes(ordered)
    targets = np.log([[p.loss for p in ordered]])
    lowest = float(targets.min())
    grid: list[list[float]] = [[]]
    for logs in axes:  # each term begins as a share of the loss at the middle of the points
        grid = [
            [*start, lowest + math.log(share) + exponent * float(logs.mean()), math.log(exponent)]
            for start in grid
            for share in (0.05, 0.3, 0.8)
            for exponent in (0.05, 0.2, 0.5, 1.0)
        ]
    starts = np.array([[*start, lowest + math.log(rest)] for start in grid for rest in (0.1, 0.5, 0.9)])
    theta, loss = fit(power_sum(axes), starts, targets)
    return theta[int(np.argmin(loss))], targets


def _law(theta: Array) -> Law:
    values = [float(v) for v in np.exp(theta)]
    tokens = {"token_scale": values[2], "token_exponent": values[3]} if len(values) == 5 else {}
    return Law(constant=values[-1], scale=values[0], exponent=values[1], **tokens)


def _refits(ordered: Sequence[Point], law: Law, spread: float, draws: int, seed: int) -> list[Law]:
    """Laws fitted to this law's losses with noise; for three models those that have one."""
    noise = spread * np.asarray(Key(seed, "reference-loss").normal(draws * len(ordered))).reshape(draws, len(ordered))
    losses = np.array([law.loss(p) for p in ordered]) + noise
    if len(ordered) == 3:
        solved = _solve_three(np.log([p.num_parameters for p in ordered]), losses)
        return [
            Law(exponent=float(a), scale=float(s), constant=float(c))
            for a, s, c in zip(*solved, strict=True)
            if not math.isnan(a)
        ]
    theta, _ = _best(ordered)
    starts = np.repeat(theta[None], draws, axis=0)
    refitted, _ = fit(power_sum(_axes(ordered)), starts, np.log(np.maximum(losses, 1e-6)), steps=100)
    return [_law(one) for one in refitted]


def _remarks(
    law: Law,
    ordered: Sequence[Point],
    targets: Sequence[Point],
    residuals: Sequence[float],
    noise: float,
    unsolved: float,
) -> list[str]:
    found = []
    worst = max(range(len(ordered)), key=lambda i: abs(residuals[i]))
    if abs(residuals[worst]) > 3 * noise:
        found.append(
            f"the inputs do not fit the law: the model of {ordered[worst].num_parameters:,.0f} parameters is "
            f"{abs(residuals[worst]):.4f} nat off, more than three times the assumed noise of {noise:g}"
        )
    if law.constant < 0:
        found.append(
            f"the irreducible loss is {law.constant:.2f}, below zero: in this range the law is almost a straight line "
            "in ln N. Do not use it far from the measured sizes"
        )
    if len(ordered) > 3 and (law.exponent < 1e-3 or law.exponent > 3):
        found.append(f"the exponent of the size is {law.exponent:.2g}: the losses do not tell size apart from the rest")
    if unsolved > 0.01:
        found.append(
            f"with this much noise {unsolved:.0%} of the refits have no solution; the error bars are too small"
        )
    smallest, largest = ordered[0].num_parameters, ordered[-1].num_parameters
    far = [t for t in targets if not smallest / 2 <= t.num_parameters <= 2 * largest]
    if far:
        factor = max(max(smallest / t.num_parameters, t.num_parameters / largest) for t in far)
        found.append(f"predicted sizes lie up to {factor:.3g} times outside the measured ones")
    return found
