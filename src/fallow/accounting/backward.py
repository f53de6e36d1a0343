"""What a backward pass need not compute when some weights are frozen."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fallow.linear.roles import is_beside
from fallow.tuners.prefix import NAME as PREFIX

_FIRST = ("input_layernorm", "self_attn_layer_norm", "post_attention_layernorm")
"""Norms that some families list at the end of a block, though a token meets them before its layers."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """Numbers of a linear layer that multiply an input, term by term, and whether each term is trained."""

    base: int = 0
    """A stock layer's weight, too."""

    low_rank_a: int = 0
    low_rank_b: int = 0
    values: int = 0
    trains_base: bool = False
    trains_a: bool = False
    trains_b: bool = False
    trains_values: bool = False

    @property
    def total(self) -> int:
        """All of them: each is one multiplication and one addition a token."""
        return self.base + self.low_rank_a + self.low_rank_b + self.values


@dataclass(frozen=True, slots=True)
class Passed:
    """The parameters of a model in the order in which a token meets them, and which of them are trained."""

    trained: tuple[str, ...]
    """Names of modules with a trained parameter, in order."""

    order: dict[str, int]
    """Place of each module that has parameters."""

    @classmethod
    def of(cls, parameters: Iterable[tuple[str, bool]]) -> "Passed":
        """From (name, whether it is trained) in the order of the model."""
        modules: dict[str, bool] = {}
        # A prefix enters with the keys of the first block: all that comes behind it is passed by its gradient.
        parameters = sorted(parameters, key=lambda parameter: not parameter[0].startswith(f"{PREFIX}."))
        for name, is_trained in parameters:
            module = name.rpartition(".")[0]
            modules[module] = modules.get(module, False) or is_trained
        places: dict[str, int] = {}
        for module in modules:
            places.setdefault(_block_of(module), len(places))
        ordered = sorted(modules, key=lambda m: (places[_block_of(m)], m.rpartition(".")[2] not in _FIRST))
        return cls(tuple(m for m in ordered if modules[m]), {m: place for place, m in enumerate(ordered)})

    def before(self, name: str) -> bool:
        """Whether anything is trained that a layer's input depends on: modules before it, without those beside it."""
        place = self.order[name]
        return any(self.order[other] < place and not is_beside(name, other) for other in self.trained)

    def within(self, name: str) -> bool:
        """Whether the layer's output depends on anything trained."""
        return name in self.trained or self.before(name)


def saved(name: str, numbers: Numbers, passed: Passed) -> int:
    """Multiplications a token that the backward pass of one linear layer does without, of 2 * numbers.total.

    Each term costs as much for the gradient of its input as forward, and as much for its own. A frozen term saves the
    latter. Where nothing before the layer is trained, the gradient of its input is not needed either, except that of
    the inner product A x when A is trained.
    """
    trained = (
        numbers.base * numbers.trains_base
        + numbers.low_rank_a * numbers.trains_a
        + numbers.low_rank_b * numbers.trains_b
        + numbers.values * numbers.trains_values
    )
    inputs = numbers.total if passed.before(name) else numbers.low_rank_b * numbers.trains_a
    return 2 * numbers.total - trained - inputs


def needs_backward(names: Sequence[str], passed: Passed) -> list[bool]:
    """Whether the attention products of each block are passed by a gradient, which costs two forward passes.

    Args:
        names: the linear layers of attention, in order; the last one of a block is its output projection.
        passed: what is trained.
    """
    blocks: dict[str, list[str]] = {}
    for name in names:
        blocks.setdefault(_block_of(name), []).append(name)
    return [any(passed.within(name) for name in inside[:-1]) for inside in blocks.values()]


def _block_of(name: str) -> str:
    """The name up to the number of the block."""
    parts = name.split(".")
    last = min((place for place, part in enumerate(parts) if part.isdigit()), default=len(parts) - 1)
    return ".".join(parts[: last + 1])
