"""What a recipe says of the update: a choice by name, from AdamW to a projected 8-bit one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from fallow.config import Positive, check_bounds
from fallow.errors import UserError, unknown

SMALL = 4096
"""A parameter with fewer entries keeps its moments in full: they weigh nothing, and norms need them exact."""

_ENDLESS = float("inf")
_WORDS = {
    "decay": ("matrices", "all"),
    "clip_by": ("all", "tensor"),
    "update": ("together", "per_layer"),
    "weights": ("model", "bf16"),
    "preset": ("paper", "released"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Optimizer:
    """`adamw`: AdamW (Loshchilov & Hutter, 2019) with a rate for each part, and clipping.

    A method may multiply the rate of some parameters (sparse values learn faster under SuPar). Weight decay is
    decoupled and uses the same multiplied rate: w <- w - rate * scale * weight_decay * w.

    >>> Optimizer(lr=1e-3).name, AdamW8bit(lr=1e-3).block, GaLore(lr=1e-2, rank=128).every
    ('adamw', 256, 200)
    """

    name: ClassVar[str] = "adamw"

    lr: float
    """Peak learning rate."""

    embedding_scale: float = 1.0
    """Factor on the rate of embeddings and of the head over the vocabulary. The rate that suits them does not fall with
    the width of the model, that of the blocks' matrices does (Yang et al., 2021, arXiv 2203.03466), so that one rate
    for both can be too low for embeddings and too high for matrices. To compare methods, search it with `lr`."""

    betas: tuple[float, float] = (0.9, 0.95)
    """How slowly the running means of the gradient and of its square forget. The second is 0.95 for pre-training, 0.999
    for short fine-tuning on small batches."""

    eps: float = 1e-8
    """Added to the root of the second mean."""

    weight_decay: float = 0.1
    """Share of a weight that is taken off in one step, times the rate. 0 for none."""

    decay: Literal["matrices", "all"] = "matrices"
    """What decays: `matrices` (and parts of one, such as sparse values) leaves out biases and norms; `all` does not."""

    clip: float = 1.0
    """Gradients with a larger norm are scaled down to this. 0 for no clipping."""

    clip_by: Literal["all", "tensor"] = "all"
    """Whose norm: that of `all` gradients together, or of each `tensor` by itself, which needs no other gradient and so
    goes with updates per layer."""

    update: Literal["together", "per_layer"] = "together"
    """When weights change: all `together` after the backward pass, or `per_layer` inside it, each parameter as soon as
    its gradient is complete, which is freed then. The same numbers; without accumulation, gradients take the memory of
    the largest layer instead of the model's."""

    weights: Literal["model", "bf16"] = "model"
    """Type of the stored weights: that of the `model`, or `bf16`, half of fp32, with every update rounded up or down at
    random so that small ones are not lost (stochastic rounding). Needs precision: bf16."""

    def __post_init__(self) -> None:
        """Check ranges, and settings against each other."""
        for name, words in _WORDS.items():
            if getattr(self, name, words[0]) not in words:
                raise UserError(f"{name}: {unknown(f'kind of {name}', getattr(self, name), words)}")
        if not 0 < self.lr < _ENDLESS:
            raise UserError(f"lr is {self.lr}, but it must be above 0 and finite. A usual value is 0.0003.")
        if not 0 < self.embedding_scale < _ENDLESS:
            raise UserError(
                f"embedding_scale is {self.embedding_scale}, but it must be above 0. 1 is the rate of all others."
            )
        for beta in self.betas:
            if not 0 <= beta < 1:
                raise UserError(
                    f"betas is {list(self.betas)}, but both must be at least 0 and below 1, as in [0.9, 0.95]."
                )
        if not 0 < self.eps < _ENDLESS:
            raise UserError(f"eps is {self.eps}, but it must be above 0. A usual value is 1.0e-08.")
        if not 0 <= self.weight_decay < _ENDLESS:
            raise UserError(f"weight_decay is {self.weight_decay}, but it must be at least 0 (0 for none).")
        if not 0 <= self.clip < _ENDLESS:
            raise UserError(f"clip is {self.clip}, but it must be at least 0 (0 for no clipping).")
        if self.clip_by == "tensor" and not self.clip:
            raise UserError("clip_by is tensor, which has no effect with clip: 0. Remove clip_by, or write clip: 1.0.")
        if self.update == "per_layer" and self.clip and self.clip_by == "all":
            raise UserError(
                f"clip is {self.clip:g} by the norm of all gradients, which has no effect with update: per_layer (a "
                "gradient is freed before the next one exists). Write clip_by: tensor, or clip: 0."
            )

    @property
    def moment_block(self) -> int:
        """Entries that share a scale in 8-bit moments; 0 for moments in full."""
        return 0

    @property
    def projection(self) -> "GaLore | None":
        """How gradients of matrices are projected, or None."""
        return None

    def check_processes(self) -> None:
        """Refuse several processes where they cannot share the work.

        Raises:
            UserError: with what to write instead.
        """
        if self.projection is not None:
            raise UserError(
                f"optimizer.{self.name} works on one process: its subspaces come from whole gradients, and several "
                "processes hold shards. Start it without torchrun, or write optimizer.name: adamw8bit"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class AdamW8bit(Optimizer):
    """`adamw8bit`: AdamW whose two moments take a byte an entry each (Dettmers et al., 2022, arXiv 2110.02861).

    Every `block` entries share a scale, the largest magnitude among them; an entry is the nearest of 256 values between
    -1 and 1 (0 and 1 for the second moment), close together near 0. All arithmetic is in fp32. The last block may be
    short, so that parameters of any size are quantised; those with fewer than 4,096 entries stay in fp32.

    Differs from the released code (bitsandbytes): a second moment above 0 never becomes 0, where an update would be
    divided by eps alone. It works on any device, and on shards of a parameter.
    """

    name: ClassVar[str] = "adamw8bit"

    block: int = 256
    """Entries that share a scale. Moments take 2 + 8 / block bytes a weight; larger blocks are coarser: one large entry
    decides over more small ones. The paper used 2048, its code 256 today."""

    def __post_init__(self) -> None:
        """Check the block."""
        Optimizer.__post_init__(self)
        _check_block(self.block)

    @property
    def moment_block(self) -> int:
        """Entries that share a scale in 8-bit moments."""
        return self.block


@dataclass(frozen=True, kw_only=True, slots=True)
class GaLore(Optimizer):
    """`galore`: AdamW in a subspace of each matrix's gradient (Zhao et al., 2024, arXiv 2403.03507).

    For the gradient G of a weight of shape (m, n), m <= n (else the same with rows and columns exchanged):

        P = the first `rank` left singular vectors of G, every `every` updates       (m, rank)
        R = P^T G                                                                     (rank, n)
        N = AdamW's direction for R, its moments of shape (rank, n)
        W <- W - rate * scale * P N

    Weights stay whole and get updates of every direction over time; moments shrink from 2 m n to 2 rank n, beside
    rank m for P. Moments are kept when P changes, as published. All other parameters have AdamW's update and the same
    rate, which is why the paper's rates are 0.005 to 0.01. For one process.

    Differs from the released code: decay comes before the update, as in AdamW (the scripts use none); updates per layer
    count updates, not micro-batches, so that `every` and the schedule need no doubling; P is a tensor like any other
    in a checkpoint, and a run continues bit for bit.
    """

    name: ClassVar[str] = "galore"

    rank: Positive
    """Width of the subspace, a quarter to a half of the model's in the paper. More costs memory and learns faster."""

    every: Positive = 200
    """Updates until the subspace is taken from the gradient anew: 200 in the paper, 500 at 7B. An SVD of every target
    matrix each time."""

    scale: float = 0.25
    """Factor on the update of projected matrices: 0.25 for pre-training in the paper."""

    targets: tuple[str, ...] = ()
    """Patterns of the layers whose weights are projected, as in the stage's targets. Empty: all linear layers of the
    blocks."""

    preset: Literal["paper", "released"] = "paper"
    """Where the two differ: `paper` adds eps to the root of the corrected second moment, as Adam does; `released` adds
    it to the uncorrected one (its default eps is 1e-6), which makes early updates smaller."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        Optimizer.__post_init__(self)
        check_bounds(self)
        if not 0 < self.scale < _ENDLESS:
            raise UserError(f"scale is {self.scale}, but it must be above 0. The paper uses 0.25.")

    @property
    def projection(self) -> "GaLore | None":
        """How gradients of matrices are projected."""
        return self

    def check_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Refuse a rank that a projected matrix does not have.

        Raises:
            UserError: names the matrix, and the largest rank that all of them have.
        """
        for name, shape in sorted(shapes.items()):
            if self.rank > min(shape):
                raise UserError(
                    f"optimizer.rank is {self.rank}, but {name} is {shape[0]} x {shape[1]}. Write at most "
                    f"{min(min(shape) for shape in shapes.values())}, or name other layers in optimizer.targets"
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class GaLore8bit(GaLore):
    """`galore8bit`: GaLore with its moments, and those of all other parameters, in 8 bits as in `adamw8bit`."""

    name: ClassVar[str] = "galore8bit"

    block: int = 256
    """Entries that share a scale, as in adamw8bit."""

    def __post_init__(self) -> None:
        """Check the block."""
        GaLore.__post_init__(self)
        _check_block(self.block)

    @property
    def moment_block(self) -> int:
        """Entries that share a scale in 8-bit moments."""
        return self.block


def optimizers() -> Mapping[str, type[Optimizer]]:
    """The optimizers by name."""
    return {cls.name: cls for cls in (Optimizer, AdamW8bit, GaLore, GaLore8bit)}


def _check_block(block: int) -> None:
    if not 16 <= block <= 65536 or block & (block - 1):
        power = min((1 << n for n in range(4, 17)), key=lambda size: abs(size - block))
        raise UserError(f"block is {block}, but it must be a power of two from 16 to 65536. Did you mean {power}?")
