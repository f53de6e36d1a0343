"""The draws of SLTrain's released layers, repeated: for comparing runs state by state, and for its checkpoints."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fallow.errors import UserError
from fallow.linear import LowRank, Site, Terms
from fallow.linear import Sparse as SparseTerm
from fallow.random import Key
from fallow.supports import Support


@dataclass(frozen=True, slots=True)
class Draw:
    """What one released layer draws. Shapes: r = rank, i = d_in, n = number of sparse entries."""

    a_ri: Tensor
    """Kaiming-uniform; B is zero."""

    positions_n: Tensor
    """Row-major, ascending."""

    values_n: Tensor
    """Uniform in +-1 / sqrt(d_in)."""


class ReleasedDraws:
    """Layers drawn one after another from one generator, as the released code makes them in fp32 on a CPU.

    Each layer takes, in this order: a bias of d_out numbers where it has one, A (Kaiming-uniform), a random permutation
    of all d_out * d_in positions, of which the first int(density * d_out * d_in) are the support, and the values. The
    permutation takes 8 bytes an entry of the matrix and most of the time: seconds for a matrix of a 7B model.

    What a layer draws depends on all layers before it, so they are drawn again where they are asked for out of order.

    Args:
        sites: the layers, in model order.
        rank: of the factors.
        density: share of entries in the sparse part.
        generator: as it is when the released code begins to replace layers. It is copied, not moved on.
    """

    def __init__(self, sites: Mapping[str, Site], rank: int, density: float, generator: torch.Generator) -> None:
        self.sites, self.rank, self.density = tuple(sites.values()), rank, density
        self._states = [generator.get_state()]
        self._last: tuple[int, Draw] | None = None

    def num_entries(self, shape: tuple[int, int]) -> int:
        """Entries of a support: cut off, not rounded."""
        return int(self.density * shape[0] * shape[1])

    def layer(self, number: int) -> Draw:
        """What layer number `number` draws."""
        if self._last is None or self._last[0] != number:
            while len(self._states) <= number:
                self._draw(len(self._states) - 1)
            self._last = number, self._draw(number)
        return self._last[1]

    def _draw(self, number: int) -> Draw:
        site = self.sites[number]
        (d_out, d_in), generator = site.shape, torch.Generator()
        generator.set_state(self._states[number])
        if site.bias:
            torch.empty(d_out).uniform_(generator=generator)
        a_ri = nn.init.kaiming_uniform_(torch.empty(self.rank, d_in), a=math.sqrt(5), generator=generator)
        order = torch.randperm(d_out * d_in, generator=generator)
        positions_n = order[: self.num_entries(site.shape)].sort().values
        bound = 1 / math.sqrt(d_in)
        values_n = torch.empty(positions_n.numel()).uniform_(-bound, bound, generator=generator)
        if len(self._states) == number + 1:
            self._states.append(generator.get_state())
        return Draw(a_ri, positions_n, values_n)


@dataclass(frozen=True, slots=True)
class _Kind:
    """The support of one layer."""

    draws: ReleasedDraws
    """Of all layers."""

    number: int
    """Which layer."""

    def num_entries(self, shape: tuple[int, int], density: float) -> int:
        return self.draws.num_entries(shape)

    def draw(self, shape: tuple[int, int], density: float, key: Key) -> Support:
        return Support.from_flat(shape, self.draws.layer(self.number).positions_n.numpy())


@dataclass(frozen=True, slots=True)
class _Start:
    """Its values."""

    draws: ReleasedDraws
    """Of all layers."""

    number: int
    """Which layer."""

    def values(self, weight_n: Tensor, d_in: int, key: Key) -> Tensor:
        return self.draws.layer(self.number).values_n.to(weight_n)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Factors(LowRank):
    """Its factors."""

    draws: ReleasedDraws
    """Of all layers."""

    number: int
    """Which layer."""

    def draw(self, weight_oi: Tensor) -> tuple[Tensor, Tensor]:
        return self.draws.layer(self.number).a_ri, torch.zeros(weight_oi.shape[0], self.rank)


def released_terms(
    sites: Mapping[str, Site], rank: int, alpha: float, density: float, generator: torch.Generator, key: Key
) -> dict[str, Terms]:
    """Terms that begin as the released layers do.

    Args:
        sites: the layers, in model order.
        rank: of the factors.
        alpha: of the product.
        density: share of entries in the sparse part.
        generator: see `ReleasedDraws`.
        key: names nothing that is drawn; terms have one.

    Raises:
        UserError: a layer that the released code would pass over.
    """
    draws, found = ReleasedDraws(sites, rank, density, generator), {}
    for number, (name, site) in enumerate(sites.items()):
        if site.transposed or len(site.parts) > 1:
            raise UserError(
                f"preset released replaces nn.Linear alone, and {name} is another kind of layer, which the released "
                "code would leave dense without a word. Write preset: paper"
            )
        here = key.child(name)
        found[name] = Terms(
            low_rank=_Factors(rank=rank, alpha=alpha, key=here, draws=draws, number=number),
            sparse=SparseTerm(
                kind=_Kind(draws, number), density=density, key=here, parts=site.parts, start=_Start(draws, number)
            ),
        )
    return found
