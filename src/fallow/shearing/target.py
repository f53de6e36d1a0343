"""From what a target says to the shape it means for a model."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fallow.errors import UserError, nearest
from fallow.shearing.counter import Counter
from fallow.shearing.families import Family, check_target, family_of
from fallow.shearing.known import KNOWN
from fallow.shearing.settings import SIZES, Target
from fallow.shearing.shape import Shape
from fallow.stock import config_from, new_model

_TOLERANCE = 0.02


def shape_for(target: Target, config: Any, counter: Callable[[], Counter]) -> Shape:
    """The shape that a target means for a model, checked against it.

    Args:
        target: what is wanted.
        config: the source's transformers configuration.
        counter: gives the counter of the source; asked for only when the target is a number of parameters.

    Raises:
        UserError: no such model to be like, or a shape that the source cannot be cut to; says what to write instead.
    """
    family = family_of(config)
    source = family.shape_of(config)
    if target.like:
        shape = _like(target.like, source)
    elif target.parameters:
        shape = _nearest(target, family, config, counter())
    else:
        shape = _with_sizes(target, family, source)
    check_target(family, config, shape)
    if shape == source:
        raise UserError(
            f"the target is the shape of the source, {source}: there is nothing to cut. Write smaller sizes"
        )
    return shape


def _with_sizes(target: Target, family: Family, source: Shape) -> Shape:
    sizes = {name: getattr(target, name) or getattr(source, name) for name in SIZES}
    if not family.width_is_free and target.hidden and not target.heads:
        if target.hidden % source.head_size:
            near = max(round(target.hidden / source.head_size), 1) * source.head_size
            raise UserError(
                f"hidden is {target.hidden}, but in a {family.model_type} heads of {source.head_size} fill it exactly. "
                f"Did you mean {near}?"
            )
        sizes["heads"] = target.hidden // source.head_size
    if source.group == 1 and not target.kv_heads:
        sizes["kv_heads"] = sizes["heads"]
    return source.with_sizes(**sizes)


def _like(name: str, source: Shape) -> Shape:
    if name in KNOWN:
        return KNOWN[name]
    path = Path(name)
    file = path / "config.json" if path.is_dir() else path
    if not file.is_file():
        close = nearest(name, KNOWN)
        hint = f"Did you mean {close}?" if close else f"Known: {', '.join(KNOWN)}."
        raise UserError(f'like is "{name}", which is neither a known model nor a folder with a config.json. {hint}')
    try:
        config = config_from(json.loads(file.read_text(encoding="utf-8")), file)
    except UserError:
        raise
    except Exception as error:  # transformers raises many kinds
        raise UserError(f"{file} is not the configuration of a model: {error}") from error
    return family_of(config).shape_of(config)


def _nearest(target: Target, family: Family, config: Any, counter: Counter) -> Shape:
    """The shape with about the wanted number of parameters whose proportions are the most usual.

    Heads and inner width shrink with the hidden size; depth with its root, as in Sheared-LLaMA's targets (half the
    width, three quarters of the layers).
    """
    source, wanted = counter.source, target.parameters
    most = counter.total(source)
    if wanted >= most:
        raise UserError(f"parameters is {wanted:,}, but the source has {most:,}. Write fewer")
    found: list[tuple[float, float, Shape]] = []
    for shape in _candidates(target, family, source):
        try:
            check_target(family, config, shape)
        except UserError:
            continue
        error = abs(math.log(counter.total(shape) / wanted))
        depth, width = shape.layers / source.layers, shape.hidden / source.hidden
        found.append((max(error, _TOLERANCE), abs(math.log(depth) - 0.5 * math.log(width)), shape))
    if not found:
        raise UserError(f"no shape with these sizes can be cut from the source ({source}). Leave some of them open")
    error, _, shape = min(found, key=lambda item: item[:2])
    if error > 0.25:
        raise UserError(
            f"parameters is {wanted:,}, but the nearest sensible shape has {counter.total(shape):,} ({shape}). "
            "Write that, or give the sizes yourself"
        )
    return shape


def _candidates(target: Target, family: Family, source: Shape) -> Iterator[Shape]:
    step = _step(source.hidden)
    if not family.width_is_free:
        step = math.lcm(step, source.head_size)
    widths = [target.hidden] if target.hidden else range(step, source.hidden + 1, step)
    depth_step = 2 if source.layers >= 16 else 1
    depths = [target.layers] if target.layers else range(source.layers, 0, -depth_step)
    for hidden in widths:
        share = hidden / source.hidden
        heads = target.heads or _heads(target, family, source, hidden)
        inner_step = _step(source.inner)
        inner = target.inner or max(round(source.inner * share / inner_step), 1) * inner_step
        for layers in depths:
            sizes = {"layers": layers, "hidden": hidden, "heads": heads, "inner": min(inner, source.inner)}
            yield source.with_sizes(
                **sizes, kv_heads=target.kv_heads or (heads if source.group == 1 else source.kv_heads)
            )


def _heads(target: Target, family: Family, source: Shape, hidden: int) -> int:
    if not family.width_is_free:
        return hidden // source.head_size
    shared = 1 if source.group == 1 else target.kv_heads or source.kv_heads
    return max(round(source.heads * hidden / source.hidden / shared), 1) * shared


def _step(size: int) -> int:
    """A power of two that suits this size: an eighth of it or less, at most 128.

    >>> _step(4096), _step(512), _step(48)
    (128, 64, 4)
    """
    return min(128, 1 << max((size // 8).bit_length() - 1, 0))


def resized_config(values: Mapping[str, Any], target: Target) -> dict[str, Any]:
    """The plain values of a configuration once the model is cut to the target.

    Raises:
        UserError: see `shape_for`.
    """
    config = config_from(values)
    shape = shape_for(target, config, lambda: Counter.of_config(config, new_model))
    return family_of(config).resized(values, shape)


def describe(source: Shape, target: Shape, counter: Counter) -> dict[str, Any]:
    """Sizes and parameters before and after, as plain values."""
    return {
        "source": {**asdict(source), "parameters": counter.total(source)},
        "target": {**asdict(target), "parameters": counter.total(target)},
    }
