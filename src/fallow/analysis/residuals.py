"""What low rank leaves over: the entries of a weight minus its best approximation of rank r."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fallow.analysis.spectra import Spectrum

QUANTILES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999, 1.0)
"""Shares at which the magnitudes are told; SLTrain's support of 3% begins at 0.97."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Residual:
    """Magnitudes of R = W - W_r, where W_r keeps the r largest singular values of W."""

    rank: int

    share: float | None
    """|R|^2 / |W|^2; None when W is zero."""

    mean: float
    """Mean of |R| over the entries."""

    quantiles: tuple[float, ...]
    """|R| that the shares of `QUANTILES` of the entries do not exceed."""

    top: float | None
    """Share of |R|^2 that the largest 3% of its entries hold; None when R is zero."""


def residual(weight: Tensor, rank: int) -> tuple[Spectrum, Residual]:
    r"""The spectrum of a matrix, and what is left of it after its best approximation of a rank.

        R = W - U_r diag(s_r) V_r^T

    of which the squared norm is the sum of the squared singular values behind the first r. Computed in float64.

    Args:
        weight: W, (d_out, d_in).
        rank: r, from 0 (the residual is W) to the smaller side of W.

    Source: SLTrain, figure 2: after the first r values are taken away, most entries are small and of similar size, so
    that which of them a sparse term learns matters little.
    """
    w = weight.double()
    u, s, vh = torch.linalg.svd(w, full_matrices=False)
    left = (w - (u[:, :rank] * s[:rank]) @ vh[:rank]).abs().flatten()
    ordered = left.sort().values
    num = ordered.numel()
    places = [min(num - 1, round(share * (num - 1))) for share in QUANTILES]
    energy, total = float(left.square().sum()), float(w.square().sum())
    largest = ordered[num - max(1, round(0.03 * num)) :]
    found = Residual(
        rank=rank,
        share=energy / total if total else None,
        mean=float(left.mean()),
        quantiles=tuple(ordered[places].tolist()),
        top=float(largest.square().sum()) / energy if energy else None,
    )
    return Spectrum(tuple(s.tolist())), found
