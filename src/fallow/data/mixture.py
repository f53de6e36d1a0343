"""An endless, shuffled stream of batches from weighted sources, whose state is a handful of numbers."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from fallow.data.batch import Dataset
from fallow.data.proportions import Fixed, Proportions
from fallow.errors import UserError
from fallow.random import Key, permutation_index


class Mixture:
    """Batches drawn from several data sets by weight.

    Sample number i of the stream comes from the source that a draw keyed by (seed, i) picks with probability
    weight / sum of weights. Within a source, samples follow a random permutation keyed by (seed, source, epoch), walked
    by a cursor: every sample is seen exactly once before any is seen again. So the global batch is a pure function of
    (seed, position, cursors), the same for every number of processes, and neither resuming nor a long epoch costs
    anything. Rank r takes samples r, r + world, r + 2 world, ... of it. Where `proportions` move with the losses, the
    shares are part of the state.

    Args:
        sources: (name, data set, weight) of each source; all of one kind.
        seed: another seed, another order.
        batch: sequences in a global batch, over all processes.
        rank: this process.
        world: number of processes; must divide `batch`.
        proportions: shares of the sources that validations may move; by default they stay as the weights say.

    Raises:
        UserError: no source, an empty one, two of one name, or a world that does not divide the batch.
    """

    def __init__(
        self,
        sources: Sequence[tuple[str, Dataset, float]],
        *,
        seed: int,
        batch: int,
        rank: int = 0,
        world: int = 1,
        proportions: Proportions | None = None,
    ) -> None:
        _check(sources, batch, rank, world)
        self.sources = tuple(sources)
        self.seed, self.batch, self.rank, self.world = seed, batch, rank, world
        self.proportions = proportions or Fixed([weight for _, _, weight in sources])
        self._draws = Key(seed, "mixture/source")
        self._position = 0
        self._cursors = [0] * len(sources)
        self._epochs = [0] * len(sources)

    @property
    def position(self) -> int:
        """Number of samples taken so far, over all processes."""
        return self._position

    @property
    def epoch_length(self) -> int:
        """Number of sequences in all sources together."""
        return sum(len(dataset) for _, dataset, _ in self.sources)

    @property
    def tokens_per_batch(self) -> int:
        """Expected number of tokens in a global batch, without padding; exact for packed text."""
        total = sum(weight for _, _, weight in self.sources)
        return round(sum(self.batch * dataset.mean_length * weight / total for _, dataset, weight in self.sources))

    @cached_property
    def fingerprint(self) -> str:
        """Changes when the stream would: other data, order, weights or batch. Not with the number of processes."""
        facts = [self.seed, self.batch, [(name, data.fingerprint, weight) for name, data, weight in self.sources]]
        if self.proportions.identity is not None:
            facts.append(self.proportions.identity)
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    def next_batches(self, num_micro: int) -> list[Any]:
        """This process's share of the next global batch.

        Args:
            num_micro: into how many micro-batches to cut it; their sizes differ by at most one sequence.
        """
        share = self.batch // self.world
        if not 1 <= num_micro <= share:
            raise UserError(
                f"cannot cut {share} sequences of a process into {num_micro} micro-batches. "
                f"The global batch is {self.batch}, the number of processes {self.world}."
            )
        picked = self._next_indices()[self.rank :: self.world]
        edges = [round(i * share / num_micro) for i in range(num_micro + 1)]
        return [self._load(picked[a:b]) for a, b in pairwise(edges)]

    def observe(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Let the shares follow a validation, from the next batch on; returns what there is to say about each source.

        Every process must be given the same numbers.
        """
        return self.proportions.observe(metrics)

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands; plain numbers and names."""
        named = zip(self.sources, self._cursors, self._epochs, strict=True)
        state = {
            "position": self._position,
            "sources": {source[0]: {"cursor": cursor, "epoch": epoch} for source, cursor, epoch in named},
            "fingerprint": self.fingerprint,
        }
        shares = self.proportions.state_dict()
        return {**state, "shares": shares} if shares else state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to where `state` was taken, also when it was taken with another number of processes; replays nothing.

        Raises:
            UserError: the state belongs to other data, another order or another batch.
        """
        if state["fingerprint"] != self.fingerprint:
            raise UserError(
                f"the saved data position belongs to another stream ({state['fingerprint']}, this one is "
                f"{self.fingerprint}): its data, weights, seed or global batch differ. Restore them, or begin again "
                "in an empty folder."
            )
        self._position = int(state["position"])
        for i, (name, _, _) in enumerate(self.sources):
            self._cursors[i] = int(state["sources"][name]["cursor"])
            self._epochs[i] = int(state["sources"][name]["epoch"])
        self.proportions.load_state_dict(state.get("shares", {}))

    def _next_indices(self) -> list[tuple[int, int]]:
        """(source, index in it) of each sample of the next global batch; moves the cursors."""
        draws = self._draws.uniform(self.batch, start=self._position)
        upper = np.cumsum(self.proportions.shares)
        chosen = np.searchsorted(upper, draws, side="right").clip(max=len(self.sources) - 1).tolist()
        picked: list[tuple[int, int]] = []
        for number in chosen:
            name, dataset, _ = self.sources[number]
            key = Key(self.seed, f"mixture/{name}/{self._epochs[number]}")
            picked.append((number, permutation_index(key, self._cursors[number], len(dataset))))
            self._cursors[number] += 1
            if self._cursors[number] == len(dataset):
                self._cursors[number], self._epochs[number] = 0, self._epochs[number] + 1
        self._position += self.batch
        return picked

    def _load(self, picked: list[tuple[int, int]]) -> Any:
        samples = [self.sources[number][1].sample(index) for number, index in picked]
        return self.sources[0][1].collate(samples, [f"{self.sources[number][0]}:{index}" for number, index in picked])


def _check(sources: Sequence[tuple[str, Dataset, float]], batch: int, rank: int, world: int) -> None:
    if not sources:
        raise UserError("a mixture needs at least one source.")
    names = [name for name, _, _ in sources]
    for name, dataset, weight in sources:
        if names.count(name) > 1:
            raise UserError(f"two sources of a mixture are named {name}. Give each one a different domain.")
        if len(dataset) == 0:
            raise UserError(
                f"source {name} has no sequence: it is shorter than one context of {dataset.context} tokens. "
                "Use a smaller context or more text."
            )
        if not 0 < weight < float("inf"):
            raise UserError(f"the weight of source {name} is {weight}, but it must be above 0.")
    if batch < 1:
        raise UserError(f"the global batch is {batch}, but it must be at least 1 sequence.")
    if not 0 <= rank < world:
        raise ValueError(f"rank {rank} is outside range({world})")
    if batch % world:
        below, above = batch - batch % world, batch + world - batch % world
        nearest = f"{below} or {above}" if below else str(above)
        raise UserError(
            f"a global batch of {batch} sequences cannot be shared by {world} processes. Use a batch of {nearest}."
        )
