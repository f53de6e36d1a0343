"""A matrix as low rank plus a few entries: which entries a low-rank approximation leaves over.

Shapes: m rows, n columns, k = rank so far, c = number of entries.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fallow.errors import UserError
from fallow.random import Key

_GROWTHS = 4
"""Steps in which the rank grows to the one that was asked for."""

_ROUNDS = 2
"""Alternations after each step."""

_TOLERANCE = 1e-4
_MOST_ROUNDS = 60
"""On pretrained weights, whose singular values fall slowly, a thousandth and 20 rounds end above the truncated SVD."""


@dataclass(frozen=True, slots=True)
class Decomposition:
    """W ~ U V + S with the objective 1/2 ||W - U V - S||^2 that it reached."""

    u_mk: Tensor
    v_kn: Tensor

    positions_c: Tensor
    """Row-major positions of the entries of S, ascending, int64."""

    values_c: Tensor
    objective: float


def decompose(weight_mn: Tensor, *, rank: int, entries: int, key: Key) -> Decomposition:
    r"""Low rank plus sparse by greedy bilateral projections.

        min  1/2 ||W - U V - S||_F^2    subject to  rank(U V) <= rank,  card(S) <= entries

    (DSEE's equation 1.) Given S, one factor is made orthonormal and the other follows by projection, which is a step of
    the power method; given U V, the best S holds the largest entries of what is left. The rank grows in a few steps,
    each along random projections of the residual, until it is `rank`; then the alternation goes on until the objective
    falls by less than a ten-thousandth. S always has exactly `entries` entries, and U V never has a rank above `rank`.

    It is done twice, with S empty at first and with the largest entries of W in it, and the lower objective wins: an
    entry that stands out far may else become a factor of its own.

    The bilateral projections and their greedy growth are those of Zhou & Tao (AISTATS 2013).

    Args:
        weight_mn: any real matrix.
        rank: bound on the rank of U V; at most min(m, n).
        entries: entries of S.
        key: names the random numbers that the factors begin with. Equal keys give equal results on one machine;
            elsewhere rounding may decide between entries of nearly equal size.

    >>> w = torch.outer(torch.arange(1.0, 9.0), torch.ones(6))
    >>> w[2, 5] += 3.0
    >>> decompose(w, rank=1, entries=1, key=Key(0)).positions_c.tolist()
    [17]

    Differs from DSEE's released code, which lets the rank grow to 496 before it reads off the entries, and finds none
    of them then: that is `released_positions`.
    """
    w_mn = weight_mn.detach().float().contiguous()
    rank = min(rank, *w_mn.shape)
    none = torch.empty(0, dtype=torch.int64, device=w_mn.device)
    largest = w_mn.view(-1).abs().topk(entries).indices
    tried = (_alternate(w_mn, rank, entries, key, begin_c) for begin_c in (largest, none))
    return min(tried, key=lambda found: found.objective)


def _alternate(w_mn: Tensor, rank: int, entries: int, key: Key, positions_c: Tensor) -> Decomposition:
    """From S with the entries of W at these positions."""
    w = w_mn.view(-1)
    rest_mn = w_mn.clone()  # W - S
    rest = rest_mn.view(-1)
    rest[positions_c] = 0.0
    step = max(1, -(-rank // _GROWTHS))
    v_kn = _normal(key.child(0), (min(step, rank), w_mn.shape[1]), w_mn)
    before, rounds = float("inf"), 0
    while True:
        u_mk, _ = torch.linalg.qr(rest_mn @ v_kn.t())
        v_kn = u_mk.t() @ rest_mn
        error_mn = torch.addmm(w_mn, u_mk, v_kn, alpha=-1.0)
        error = error_mn.view(-1)
        rest[positions_c] = w[positions_c]
        positions_c = error.abs().topk(entries).indices
        values_c = error[positions_c].clone()
        rest[positions_c] -= values_c
        error[positions_c] = 0.0
        objective = 0.5 * float(error_mn.square().sum())
        rounds += 1
        if len(v_kn) < rank and rounds % _ROUNDS == 0:
            more = min(step, rank - len(v_kn))
            probe_km = _normal(key.child(len(v_kn)), (more, w_mn.shape[0]), w_mn)
            v_kn = torch.cat([v_kn, probe_km @ error_mn])
        elif len(v_kn) == rank and (before - objective <= _TOLERANCE * before or rounds >= _MOST_ROUNDS):
            break
        before = objective if len(v_kn) == rank else float("inf")
    order = positions_c.argsort()
    return Decomposition(u_mk, v_kn, positions_c[order], values_c[order], objective)


def released_positions(weight_mn: Tensor, *, entries: int, key: Key, rounds: int = 100) -> Tensor:
    """The entries that the procedure of DSEE's released code chooses; for reproduction alone.

    In each round: twice U <- Q factor of (W - S) V^T, V <- U^T (W - S), S <- entries of W - U V of at least 0.01;
    then the first five rows of the R factor of W - U V - S are put below V. The entries are the largest of the last S.
    After a hundred rounds the rank is 496 and little but noise is left: on matrices with planted entries it finds none.

    Args:
        weight_mn: any real matrix.
        entries: how many.
        key: names the random numbers that V begins with; the released code takes them from the global generator.
        rounds: 100 in the released code.

    Raises:
        UserError: fewer entries than asked for are above 0.01. The released code goes on there with a mask that lets
            every entry of the matrix be trained.
    """
    w_mn = weight_mn.detach().float().contiguous()
    v_kn = _normal(key, (1, w_mn.shape[1]), w_mn)
    sparse_mn = torch.zeros_like(w_mn)
    for _ in range(rounds):
        sparse_mn = torch.zeros_like(w_mn)
        for _ in range(2):
            rest_mn = w_mn - sparse_mn
            u_mk, _ = torch.linalg.qr(rest_mn @ v_kn.t())
            v_kn = u_mk.t() @ rest_mn
            sparse_mn = torch.addmm(w_mn, u_mk, v_kn, alpha=-1.0)
            sparse_mn[sparse_mn.abs() < 0.01] = 0.0
        error_mn = torch.addmm(w_mn, u_mk, v_kn, alpha=-1.0) - sparse_mn
        v_kn = torch.cat([v_kn, torch.linalg.qr(error_mn).R[:5]])
    found = int(sparse_mn.count_nonzero())
    if found < entries:
        raise UserError(
            f"support released finds {found} entries above its threshold of 0.01, but entries is {entries}; the "
            "released code would train the whole matrix then. Write support: decomposition"
        )
    return sparse_mn.view(-1).abs().topk(entries).indices.sort().values


def _normal(key: Key, shape: tuple[int, int], like: Tensor) -> Tensor:
    return torch.from_numpy(key.normal(shape[0] * shape[1])).view(shape).to(like)
