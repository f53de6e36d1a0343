"""One-shot pruning of single weights by magnitude, Wanda or SparseGPT: shapes stay, entries become zero.

r: outputs of a layer, c: inputs.
"""

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fallow.config import check
from fallow.errors import UserError, unknown
from fallow.linear.inputs import block_names, dense_weight, is_linear
from fallow.pruning.sparsegpt import sparsegpt
from fallow.shearing.scores.example import Example, on_device, run

Sparsifier = Literal["magnitude", "wanda", "sparsegpt"]
SPARSIFIERS = ("magnitude", "wanda", "sparsegpt")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sparsify:
    """How single weights of the blocks' linear layers are pruned, at once and without training.

    >>> Sparsify(by="wanda", pattern="2:4").kept_of()
    (2, 4)
    """

    by: Sparsifier = "wanda"
    """What an entry is worth: `magnitude` |W|; `wanda` |W| times the norm of its input (Sun et al., 2023, arXiv
    2306.11695); `sparsegpt`, which also moves the entries that stay."""

    sparsity: float = 0.5
    """Share of each layer that is pruned; by Wanda of each of its rows."""

    pattern: str = ""
    """n:m, such as 2:4 or 4:8: of every m neighbours in a row n are kept. Then `sparsity` has to agree."""

    damp: float = 0.01
    """SparseGPT only: see `sparsegpt`."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check(self)
        if self.by not in SPARSIFIERS:
            raise UserError(f"by: {unknown('score', self.by, SPARSIFIERS)}")
        if not 0 < self.sparsity < 1:
            raise UserError(f"sparsity is {self.sparsity}, but it must be above 0 and below 1")
        if (found := self.kept_of()) is not None and not math.isclose(self.sparsity, 1 - found[0] / found[1]):
            raise UserError(
                f"pattern is {self.pattern}, which prunes {1 - found[0] / found[1]:g}, but sparsity is "
                f"{self.sparsity:g}. Write that, or remove one of the two"
            )
        if not 0 < self.damp < math.inf:
            raise UserError(f"damp is {self.damp}, but it must be above 0. 0.01 is usual")
        if self.by != "sparsegpt" and self.damp != 0.01:
            raise UserError(f"damp has no effect by {self.by}. Remove it, or write by: sparsegpt")

    def kept_of(self) -> tuple[int, int] | None:
        """(n, m) of the pattern, if there is one."""
        if not self.pattern:
            return None
        match = re.fullmatch(r"(\d+):(\d+)", self.pattern)
        kept, size = (int(match[1]), int(match[2])) if match else (0, 0)
        if not 0 < kept < size or (size & (size - 1)) or size > 64:
            raise UserError(f"pattern is {self.pattern}, but it must be n:m with n below m, m a power of two up to 64")
        return kept, size


def sparsify(model: nn.Module, settings: Sparsify, examples: Sequence[Example] = ()) -> dict[str, float]:
    r"""Prune the linear layers of a stock model's blocks, block after block, in place.

    Scores, by layer, with x the inputs of the layer in a model whose earlier blocks are pruned already:

        magnitude    abs(W_rc),                       smallest of the layer
        wanda        abs(W_rc) sqrt(E[x_c^2]),        smallest of each row
        sparsegpt    see `fallow.pruning.sparsegpt`

    Under a pattern all of them take the smallest of each m neighbours. The result is a stock model with zeros; what
    makes it small or fast is a sparse method or a 2:4 kernel.

    Args:
        model: a stock decoder.
        settings: how.
        examples: text; without effect by magnitude.

    Returns:
        The share of zeros by layer.

    Raises:
        UserError: no text where some is needed, a width that the pattern does not divide, or no blocks.

    Differs from the released code: text is of any length, where Wanda's takes the model's whole context; SparseGPT
    counts in float64 and leaves the order of columns alone (so does its code by default).
    """
    blocks = block_names(model)
    if not blocks:
        raise UserError(f"{type(model).__name__} has no repeated blocks with linear layers")
    given = on_device(examples, next(model.parameters()).device)
    if settings.by != "magnitude" and not given:
        raise UserError(f"by {settings.by} measures the model on text, but no examples are given")
    pattern = settings.kept_of()
    for name, module in _layers(model, blocks):
        width = dense_weight(module).shape[1]
        if pattern is not None and width % pattern[1]:
            raise UserError(f"{name} reads {width} channels, which pattern {settings.pattern} does not divide")
    found: dict[str, float] = {}
    for block in blocks:
        layers = dict(_layers(model, [block]))
        moments = _moments(model, layers, given, whole=settings.by == "sparsegpt") if settings.by != "magnitude" else {}
        for name, module in layers.items():
            with torch.no_grad():
                weight_rc = dense_weight(module)
                weight_rc.copy_(_pruned(weight_rc, settings, moments.get(name)))
                found[name] = 1 - float(weight_rc.count_nonzero()) / weight_rc.numel()
    return found


def _pruned(weight_rc: Tensor, settings: Sparsify, moments: Tensor | None) -> Tensor:
    pattern = settings.kept_of()
    if settings.by == "sparsegpt":
        assert moments is not None
        return sparsegpt(weight_rc, moments, sparsity=settings.sparsity, pattern=pattern, damp=settings.damp)
    scores_rc = weight_rc.abs().float()
    if moments is not None:
        scores_rc = scores_rc * moments.sqrt().float()
    width = weight_rc.shape[1]
    if pattern is not None:
        width, num = pattern[1], pattern[1] - pattern[0]
    elif settings.by == "magnitude":
        width, num = weight_rc.numel(), round(settings.sparsity * weight_rc.numel())
    else:
        num = round(settings.sparsity * width)
    rows = scores_rc.reshape(-1, width)
    gone = torch.zeros_like(rows, dtype=torch.bool).scatter_(1, rows.argsort(dim=1, stable=True)[:, :num], True)
    return weight_rc.masked_fill(gone.view_as(weight_rc), 0.0)


def _layers(model: nn.Module, blocks: Sequence[str]) -> Iterator[tuple[str, nn.Module]]:
    for block in blocks:
        for name, module in model.get_submodule(block).named_modules():
            if is_linear(module):
                yield f"{block}.{name}" if name else block, module


def _moments(
    model: nn.Module, layers: dict[str, nn.Module], examples: Sequence[Example], *, whole: bool
) -> dict[str, Tensor]:
    """E[x_c^2] of what each layer reads, shape (c,); or E[x x^T], shape (c, c)."""
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}

    def watch(name: str) -> Any:
        def see(module: nn.Module, args: tuple[Any, ...]) -> None:
            x_nc = args[0].detach().double().flatten(0, -2)
            added = x_nc.t() @ x_nc if whole else x_nc.square().sum(0)
            sums[name] = sums[name] + added if name in sums else added
            counts[name] = counts.get(name, 0) + len(x_nc)

        return see

    with _hooked([(module, watch(name)) for name, module in layers.items()]), torch.no_grad():
        run(model, examples)
    return {name: sums[name] / counts[name] for name in layers}


@contextmanager
def _hooked(hooks: Sequence[tuple[nn.Module, Any]]) -> Iterator[None]:
    handles = [module.register_forward_pre_hook(hook) for module, hook in hooks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
