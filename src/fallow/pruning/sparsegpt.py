"""SparseGPT: prune columns from left to right; those that follow make up for it. r: outputs, c: inputs."""

import torch
from torch import Tensor

from fallow.errors import UserError

BLOCK = 128
"""Columns that are chosen and updated together."""


@torch.no_grad()
def sparsegpt(
    weight_rc: Tensor, moments_cc: Tensor, *, sparsity: float, pattern: tuple[int, int] | None, damp: float
) -> Tensor:
    r"""A sparse weight whose outputs are near those of a dense one (Frantar and Alistarh, 2023, arXiv 2301.00774).

    With H = E[x x^T] + damp mean(diag) I over the inputs x, the error of the outputs is (w - w') H (w - w')^T for each
    row. Columns are gone through from left to right. Where entry j of a row is pruned, the entries after it move by
    the step of optimal brain surgery among the columns that are left, F = {j, j + 1, ...}:

        w_F  <-  w_F - w_j / [H_FF^-1]_jj [H_FF^-1]_(:, j)

    All H_FF^-1 that are needed are in one factor: with H^-1 = U^T U, U upper triangular, their columns are
    U_jj U_(j, F). Entries are chosen by w_j^2 / U_jj^2: the smallest of every 128 columns of all rows together, or the
    smallest n of every m neighbours of a row.

    Args:
        weight_rc: the dense weight, shape (r, c).
        moments_cc: E[x x^T], shape (c, c).
        sparsity: share that is pruned; without effect under a pattern.
        pattern: (n, m): n of every m neighbours in a row are kept.
        damp: added to the diagonal, as a share of its mean. More moves the others less. 0.01 in the paper.

    Returns:
        The sparse weight, in the type of the dense one.

    Raises:
        UserError: H has no factor: entries are not finite, or damp is too small for inputs that depend on each other.
    """
    w = weight_rc.double().clone()
    h = moments_cc.double().clone()
    dead_c = h.diagonal() == 0  # never read: nothing is lost without them
    h.diagonal()[dead_c] = 1.0
    w[:, dead_c] = 0.0
    h.diagonal().add_(damp * h.diagonal().mean())
    factor, failed = torch.linalg.cholesky_ex(h)
    if not bool(torch.isfinite(h).all()) or int(failed):
        raise UserError(f"the inputs of a layer give no curvature to prune by (damp {damp}). Write a larger damp")
    upper = torch.linalg.cholesky(torch.cholesky_inverse(factor), upper=True)
    for first in range(0, w.shape[1], BLOCK):
        last = min(first + BLOCK, w.shape[1])
        part, u = w[:, first:last], upper[first:last, first:last]
        errors = torch.zeros_like(part)
        gone = _smallest(part.square() / u.diagonal().square(), sparsity) if pattern is None else None
        chosen = torch.zeros_like(part, dtype=torch.bool) if gone is None else gone
        for j in range(last - first):
            if pattern is not None and j % pattern[1] == 0:
                ahead = slice(j, j + pattern[1])
                score = part[:, ahead].square() / u.diagonal()[ahead].square()
                chosen[:, ahead] = _smallest_of_each(score, pattern)
            error = torch.where(chosen[:, j], part[:, j], 0.0) / u[j, j]
            part[:, j:] -= error[:, None] * u[j, j:]
            errors[:, j] = error
        part[chosen] = 0.0  # exactly
        w[:, last:] -= errors @ upper[first:last, last:]
    return w.to(weight_rc.dtype)


def _smallest(scores: Tensor, share: float) -> Tensor:
    """A mask of the smallest scores of all; of equal ones, the first."""
    gone = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
    gone[scores.flatten().argsort(stable=True)[: round(share * scores.numel())]] = True
    return gone.view_as(scores)


def _smallest_of_each(scores_rm: Tensor, pattern: tuple[int, int]) -> Tensor:
    """A mask of the m - n smallest scores of each row."""
    kept, size = pattern
    order = scores_rm.argsort(dim=-1, stable=True)
    return torch.zeros_like(scores_rm, dtype=torch.bool).scatter_(-1, order[:, : size - kept], True)
