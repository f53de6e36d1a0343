"""How long the paths take for one layer on the machine at hand, beside a stock layer."""

import logging
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import nn

from fallow.clock import since
from fallow.errors import UserError
from fallow.linear.inputs import Site
from fallow.linear.kernels.library import library
from fallow.linear.paths import GPU_PATHS, PATHS, why_not
from fallow.linear.paths.fits import unfit
from fallow.linear.planner import NO_GAIN
from fallow.linear.reparam import ReparamLinear
from fallow.linear.terms import Chosen, Terms
from fallow.supports import Block, Kind, NofM, Transposable, Vector

Precision = Literal["fp32", "bf16"]
"""Of the products; with `bf16` weights and activations are fp32, and autocast casts them, as in training."""

log = logging.getLogger(__name__)

_MOST_PIECES = 2e8
"""Products of entries and tokens above which `factored` without kernels would take seconds a call."""

_MOST_PASSES = 10_000
"""Of one measurement, should the clock stand still."""

_NO_WORSE = 0.98
"""A path is a speed-up from this share of dense's time on; above it is the noise of a clock."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """A path and its time, forward and backward together."""

    path: str
    """`dense` for the stock layer."""

    support: str
    """As a recipe writes it; empty without a sparse term."""

    shape: str
    """d_out x d_in"""

    tokens: int
    sparsity: float
    """Share of the entries that do not exist in the sparse term; 0 without one."""

    forward_backward_ms: float
    ratio_to_dense: float
    """Median over pairs of its time over that of a stock layer; below 1 is faster."""

    chosen: bool
    why: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def time_paths(
    terms: Terms,
    shape: tuple[int, int],
    tokens: int,
    *,
    paths: Sequence[str] = (),
    pairs: int = 5,
    device: torch.device | str = "cpu",
    precision: Precision = "fp32",
) -> list[Timing]:
    """Time paths against a stock layer of the same shape in alternating pairs; the first row is the stock layer.

    Fresh values, the layer's own support and random activations. One thread is measured by processor time, everything
    else by the clock. A path that could not be used is left out, as is `factored` without kernels where it would take
    seconds. A path of a GPU is left out, with a warning, where its kernels fail, or give other results than the plain
    operations of `materialise`: what has to be trusted on every GPU is tried on yours.

    Args:
        terms: of the layer; a base must not be among them (such a layer is dense already), nor a chosen support.
        shape: (d_out, d_in).
        tokens: of the activations.
        paths: names; by default all that make sense.
        pairs: how often each path and the stock layer are timed right after each other.
        device: where.
        precision: of the products.

    Raises:
        UserError: terms that cannot be timed.
    """
    if not can_be_timed(terms):
        raise UserError("only layers without a base can be timed: beside one the path update is used")
    assert not isinstance(terms.sparse, Chosen)
    device, (d_out, d_in) = torch.device(device), shape
    stock = nn.Linear(d_in, d_out).to(device)
    site = Site("timed", shape, (d_out,) if terms.sparse is None else terms.sparse.parts, False)
    x = torch.randn(tokens, d_in, device=device, requires_grad=True)
    grad = torch.randn(tokens, d_out, device=device)
    entries = 0 if terms.sparse is None else terms.sparse.num_entries(d_in)
    found: dict[str, tuple[float, float]] = {}
    dense: list[float] = []
    for path in paths or _sensible(terms, shape, entries * tokens, device, precision):
        layer = ReparamLinear.from_layer(stock, site, terms, path)
        if path in GPU_PATHS and (reason := broken(layer, x, grad, precision)):
            log.warning("path %s is left out at %dx%d: %s", path, d_out, d_in, reason)
            continue
        _once(stock, x, grad, precision), _once(layer, x, grad, precision)
        taken = [_pair(stock, layer, x, grad, precision, ours_first=bool(number % 2)) for number in range(pairs)]
        dense += [a for a, _ in taken]
        found[path] = (statistics.median(b for _, b in taken), statistics.median(b / a for a, b in taken))
    found = {path: (seconds, round(ratio, 3)) for path, (seconds, ratio) in found.items()}
    common = {
        "support": "" if terms.sparse is None else name_of(terms.sparse.kind),
        "shape": f"{d_out}x{d_in}",
        "tokens": tokens,
        "sparsity": round(1 - entries / math.prod(shape), 6) if entries else 0.0,
    }
    best = min(found, key=lambda path: found[path][1])
    rows = [_row(common, "dense", statistics.median(dense), 1.0, chosen=False, why="a stock layer")]
    for path, (seconds, ratio) in found.items():
        why = _why(path, best, ratio)
        rows.append(_row(common, path, seconds, ratio, chosen=path == best, why=why))
    return rows


def can_be_timed(terms: Terms) -> bool:
    """Whether several paths make sense: a layer with a base has a dense product in any case."""
    return terms.base is None and not isinstance(terms.sparse, Chosen)


def name_of(kind: Kind) -> str:
    """A kind of support as a recipe writes it."""
    if isinstance(kind, Vector):
        return f"vector:{kind.height}"
    if isinstance(kind, Block):
        return f"block:{kind.size}"
    if isinstance(kind, Transposable):
        return "transposable"
    return f"{kind.n}:{kind.m}" if isinstance(kind, NofM) else "uniform"


def _row(common: dict[str, Any], path: str, seconds: float, ratio: float, *, chosen: bool, why: str) -> Timing:
    took = round(1000 * seconds, 3)
    return Timing(path=path, **common, forward_backward_ms=took, ratio_to_dense=ratio, chosen=chosen, why=why)


def _why(path: str, best: str, ratio: float) -> str:
    if path != best:
        return f"slower than {best}"
    if ratio > _NO_WORSE:
        return f"{NO_GAIN}: the fastest path takes {ratio:.2f} of dense, as measured here"
    return f"the fastest: {ratio:.2f} of dense, {1 / ratio:.1f} times as fast, as measured here"


def _sensible(
    terms: Terms, shape: tuple[int, int], pieces: int, device: torch.device, precision: Precision
) -> list[str]:
    kernels = device.type == "cpu" and library() is not None
    found = []
    for path in PATHS:
        if path == "update":
            continue  # without a base it is factored
        if path == "sparse" and not (kernels and terms.sparse is not None):
            continue
        if path in GPU_PATHS and (device.type != "cuda" or why_not(path) or unfit(path, terms, shape)):
            continue
        if path == "semi_structured" and precision == "fp32":
            continue  # it is materialise
        if path == "factored" and not kernels and pieces > _MOST_PIECES:
            continue
        found.append(path)
    return found


def _pair(
    stock: nn.Module,
    layer: nn.Module,
    x: torch.Tensor,
    grad: torch.Tensor,
    precision: Precision,
    *,
    ours_first: bool,
) -> tuple[float, float]:
    """Seconds of the stock layer and of ours."""
    if ours_first:
        ours = _once(layer, x, grad, precision)
        return _once(stock, x, grad, precision), ours
    return _once(stock, x, grad, precision), _once(layer, x, grad, precision)


def _once(module: nn.Module, x: torch.Tensor, grad: torch.Tensor, precision: Precision) -> float:
    """Seconds of a forward and a backward pass; for short ones the mean of several.

    A GPU is given several passes before its end is waited for, so that it never waits for the processor between two.
    """
    on_gpu = x.device.type == "cuda"
    alone = x.device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    if on_gpu:
        torch.cuda.synchronize(x.device)
    begin, count = clock(), 0
    while not count or (clock() - begin < 0.01 and count < _MOST_PASSES):
        for _ in range(10 if on_gpu else 1):
            _pass(module, x, grad, precision)
            count += 1
        if on_gpu:
            torch.cuda.synchronize(x.device)
    return since(begin, clock) / count


def _pass(module: nn.Module, x: torch.Tensor, grad: torch.Tensor, precision: Precision) -> torch.Tensor:
    """A forward and a backward pass; gives the output."""
    x.grad = None
    module.zero_grad(set_to_none=True)
    with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16"):
        y: torch.Tensor = module(x)
    y.backward(grad.to(y.dtype))
    return y.detach()


def broken(layer: ReparamLinear, x: torch.Tensor, grad: torch.Tensor, precision: Precision) -> str:
    """Why the path of a layer is not to be trusted here; empty where it is.

    Args:
        layer: computed once by its path and once by `materialise`, whose outputs and gradients have to be the same.
        x: activations, with a gradient.
        grad: of the output.
        precision: of the products.
    """
    path, found = layer.path, {}
    for name in ("materialise", path):
        layer.use(name)
        try:
            y = _pass(layer, x, grad, precision)
            found[name] = [y, x.grad, *(p.grad for p in layer.parameters())]
        except Exception as error:  # whatever a compiler or a driver says: another path does the work
            return ": ".join([type(error).__name__, *str(error).strip().splitlines()[-1:]])
    for ours, plain in zip(found[path], found["materialise"], strict=True):
        assert ours is not None
        assert plain is not None
        if not plain.numel():
            continue
        difference, size = (ours - plain).abs().max().item(), plain.abs().max().item()
        if not difference <= _SAME[precision] * size:
            return f"its results differ from those of plain operations by {difference / max(size, 1e-30):.1%}"
    return ""


_SAME: dict[Precision, float] = {"fp32": 5e-3, "bf16": 3e-2}
"""Largest difference, as a share of the largest number, that is rounding; fp32 may be TensorFloat-32 on a GPU."""
