"""GaLore's subspace of a gradient. m, n: rows and columns of a weight; r: rank; s, l: its short and its long side."""

import torch
from torch import Tensor


def basis_of(gradient_mn: Tensor, rank: int) -> Tensor:
    """The first `rank` singular vectors of a gradient on its short side, (s, r), orthonormal columns.

    The left ones where m < n, else the right ones, as in the paper and its code.
    """
    left_mk: Tensor
    right_kn: Tensor
    left_mk, _, right_kn = torch.linalg.svd(gradient_mn.float(), full_matrices=False)
    m, n = gradient_mn.shape
    return left_mk[:, :rank] if m < n else right_kn[:rank].t()


def project(gradient_mn: Tensor, basis_sr: Tensor) -> Tensor:
    """The gradient in the subspace: P^T G, (r, n), or G P, (m, r); fp32, contiguous."""
    m, n = gradient_mn.shape
    basis_sr, gradient_mn = basis_sr.float(), gradient_mn.float()
    return basis_sr.t() @ gradient_mn if m < n else gradient_mn @ basis_sr


def project_back(low: Tensor, basis_sr: Tensor, shape: tuple[int, ...]) -> Tensor:
    """What a direction in the subspace means for the whole weight, (m, n)."""
    m, n = shape
    return basis_sr.float() @ low if m < n else low @ basis_sr.float().t()


def low_shape(shape: tuple[int, ...], rank: int) -> tuple[int, int]:
    """Shape of a projected gradient.

    >>> low_shape((8, 20), 3), low_shape((20, 8), 3)
    ((3, 20), (20, 3))
    """
    m, n = shape
    return (rank, n) if m < n else (m, rank)
