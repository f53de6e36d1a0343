"""Sums of power laws fitted to a few points: Huber loss on the logarithm, from a grid of starts.

Shapes: s = starts (or draws), m = measured points, p = parameters of the law.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Model = Callable[[Array], tuple[Array, Array]]
"""theta (s, p) -> predicted log-loss (s, m) and its derivatives (s, m, p)."""

DELTA = 1e-3
"""Where the Huber loss turns from squares to absolute values, in nats of log-loss (Hoffmann et al., 2022)."""


def power_sum(logs: list[Array]) -> Model:
    r"""The model ln sum_k exp(a_k - exp(b_k) * x_k) + exp(e), with theta = (a_1, b_1, ..., a_k, b_k, e).

    In plain words: loss = E + sum over k of A_k / X_k ** alpha_k, with A = exp(a), alpha = exp(b), X = exp(x) and
    E = exp(e), so that scales, exponents and the irreducible loss are positive whatever theta is.

    Args:
        logs: ln X_k at the m points, for each k.
    """

    def model(theta_sp: Array) -> tuple[Array, Array]:
        num = len(logs)
        terms = [theta_sp[:, 2 * k, None] - np.exp(theta_sp[:, 2 * k + 1, None]) * logs[k] for k in range(num)]
        terms.append(np.broadcast_to(theta_sp[:, -1, None], terms[0].shape))
        stacked = np.stack(terms)
        top = stacked.max(axis=0)
        log_sum = top + np.log(np.exp(stacked - top).sum(axis=0))
        shares = np.exp(stacked - log_sum)
        columns = []
        for k in range(num):
            columns += [shares[k], -shares[k] * np.exp(theta_sp[:, 2 * k + 1, None]) * logs[k]]
        columns.append(shares[-1])
        return log_sum, np.stack(columns, axis=-1)

    return model


def fit(model: Model, starts_sp: Array, targets_sm: Array, *, steps: int = 300) -> tuple[Array, Array]:
    """Minimise the Huber loss of model - targets from each start (Levenberg-Marquardt on reweighted squares).

    Args:
        model: see `power_sum`.
        starts_sp: where to begin.
        targets_sm: log-losses, one row a start, or a single row for all.
        steps: of the minimisation; a step that does not help is undone and damped more.

    Returns:
        theta (s, p), and its Huber loss (s,).
    """
    theta, targets = starts_sp.copy(), np.broadcast_to(targets_sm, (len(starts_sp), targets_sm.shape[-1]))
    damping = np.full(len(theta), 1e-2)
    predicted, jacobian = model(theta)
    residual = predicted - targets
    loss = _huber(residual)
    for _ in range(steps):
        weight = 1.0 / np.maximum(1.0, np.abs(residual) / DELTA)
        normal = np.einsum("smp,sm,smq->spq", jacobian, weight, jacobian)
        gradient = np.einsum("smp,sm,sm->sp", jacobian, weight, residual)
        scale = np.einsum("spp->sp", normal) + 1e-12
        damped = normal + damping[:, None, None] * np.eye(theta.shape[1]) * scale[:, None, :]
        move = np.linalg.solve(damped, gradient[..., None])[..., 0]
        trial = theta - np.clip(move, -2.0, 2.0)
        trial_predicted, trial_jacobian = model(trial)
        trial_residual = trial_predicted - targets
        trial_loss = _huber(trial_residual)
        better = trial_loss < loss
        theta, residual = np.where(better[:, None], trial, theta), np.where(better[:, None], trial_residual, residual)
        jacobian = np.where(better[:, None, None], trial_jacobian, jacobian)
        loss = np.where(better, trial_loss, loss)
        damping = np.clip(np.where(better, damping / 3.0, damping * 4.0), 1e-12, 1e12)
    return theta, loss


def _huber(residual_sm: Array) -> Array:
    size = np.abs(residual_sm)
    loss: Array = np.where(size <= DELTA, 0.5 * size**2, DELTA * (size - 0.5 * DELTA)).sum(axis=1)
    return loss
