"""The text of `fallow estimate`: a table of the stages, then what is behind each different one."""

import textwrap
from collections.abc import Sequence

from fallow.accounting.activations import CHECKED
from fallow.accounting.flops import Flops
from fallow.accounting.parameters import Parameters
from fallow.run.estimate import PredictedLoss, RecipeCost, StageCost

WIDTH = 118


def as_text(cost: RecipeCost) -> str:
    """The whole answer."""
    blocks = [_head(cost), _table(cost), _validations(cost)]
    for names, one in _distinct(cost):
        blocks.append(_details(names, one, cost))
    blocks += [_laws(cost), _total(cost)]
    return "\n\n".join(block for block in blocks if block)


def _head(cost: RecipeCost) -> str:
    devices = "one device" if cost.question.processes == 1 else f"{cost.question.processes} devices, FSDP2"
    return f"{cost.recipe.name}: {devices}, {cost.recipe.precision}. Counted from the settings; nothing was run."


def _table(cost: RecipeCost) -> str:
    rows = [["stage", "parameters", "non-zero", "tokens", "FLOPs", "dense", "ratio", "memory", "time"]]
    for one in cost.stages:
        p, flops = one.cost.parameters, one.flops()
        rows.append(
            [
                one.stage.name,
                count(p.positions),
                count(p.nonzero),
                _tokens(one),
                power(flops["needed"]) if flops else "?",
                power(flops["dense"]) if flops else "?",
                f"{one.cost.flops.reduction:.2f}x",
                size(one.cost.memory.peak),
                duration(one.seconds),
            ]
        )
    return _aligned(rows)


def _validations(cost: RecipeCost) -> str:
    """What is computed beside the training, where it is worth a word."""
    shares = {one.stage.name: one.validation for one in cost.stages if one.validation is not None}
    told = [f"{name} {share:.0%}" for name, share in shares.items() if share >= 0.005]
    line = f"Validations, which are not counted here, cost at most: {', '.join(told)} of the training."
    return "\n".join(textwrap.wrap(line, WIDTH)) if told else ""


def _tokens(one: StageCost) -> str:
    if one.amount.tokens is None:
        return "?"
    sign = "<=" if one.amount.certainty == "at most" else ""
    trials = f" ({one.amount.trials} trials)" if one.amount.trials > 1 else ""
    return f"{sign}{count(one.amount.tokens)}{trials}"


def _distinct(cost: RecipeCost) -> list[tuple[list[str], StageCost]]:
    """Stages that cost the same a step, together."""
    groups: dict[int, tuple[list[str], StageCost]] = {}
    for one in cost.stages:
        groups.setdefault(id(one.cost), ([], one))[0].append(one.stage.name)
    return list(groups.values())


def _details(names: Sequence[str], one: StageCost, cost: RecipeCost) -> str:
    f, m, t, d = one.cost.flops, one.cost.memory, one.cost.traffic, one.cost.disk
    path = f", path {one.planned.path_name}" if one.planned.converted else ""
    batch = f"{one.micro} x {one.context} tokens at once"
    what = f"{one.stage.method.name}{path}, {_manner(one)}{batch}"
    lines = textwrap.wrap(f"{', '.join(names)}: {what}", WIDTH)
    add = lines.extend
    add(_item("parameters", _groups(one.cost.parameters)))
    add(_item("", f"trainable {one.cost.parameters.trainable:,}, non-zero {one.cost.parameters.nonzero:,}"))
    add(
        _item(
            "FLOPs a token",
            f"forward {power(f.forward)}, backward {power(f.training - f.forward)}{_ratio(f)}",
        )
    )
    if f.training_executed - f.recomputed > f.training:
        add(
            _item(
                "executed",
                f"{power(f.training_executed)} a token: path {one.planned.path_name} multiplies by the zeros too, so "
                "time is that of the dense model or more",
            )
        )
    if f.recomputed:
        add(
            _item("", f"{power(f.recomputed)} of what is executed for a token is the second forward pass of the blocks")
        )
    gathered = f", gathered for a moment {size(m.gathered)}" if m.gathered else ""
    add(
        _item(
            "memory a device",
            f"weights {size(m.weights)}, gradients {size(m.gradients)}, optimizer {size(m.optimizer)}, indices "
            f"{size(m.indices)}, activations {size(m.activations)}, path {size(m.path)}, gradients of the logits "
            f"{size(m.loss)}, of a block {size(m.block)}, of the update {size(m.update)}{gathered}",
        )
    )
    add(_item("", f"peak {size(m.peak)}, {_MOMENTS[m.moment]}{_fits(one, cost)}"))
    if (kind := one.planned.sizes.model_type) not in CHECKED:
        add(_item("", f"activations of {kind} are counted by structure; they were not compared with a real step"))
    travel = f"all-gather {size(t.all_gather)}, reduce-scatter {size(t.reduce_scatter)}; " if t.all_gather else ""
    add(_item("moved a step", f"{travel}optimizer reads and writes {size(t.optimizer)}, on each device"))
    keep = f", with the best weights {size(d.best)}" if one.stage.validation.keep == "best" else ""
    add(_item("disk", f"a checkpoint {size(d.checkpoint)}{keep}, the finished model {size(d.model)}"))
    if one.speed:
        add(_item("throughput", f"{one.speed:,.0f} tokens/s"))
    if one.amount.why:
        add(_item("tokens", one.amount.why))
    for law in one.losses:
        add(_item("loss", _law(law, one)))
    if one.no_loss:
        add(_item("loss", f"not predicted: {one.no_loss}"))
    return "\n".join(lines)


def _manner(one: StageCost) -> str:
    """What of the update and the activations is not as usual."""
    optimizer, several = one.stage.update, one.accumulation > 1
    found = [] if optimizer.name == "adamw" else [optimizer.name]
    if optimizer.weights == "bf16":
        found.append("bf16 weights")
    if optimizer.update == "per_layer":
        found.append(
            "updates per layer" + (", which save nothing of gradients that are accumulated" if several else "")
        )
    if one.stage.activations == "recompute":
        found.append("activations recomputed")
    return "".join(f"{words}, " for words in found)


def _ratio(f: Flops) -> str:
    if not f.converted_sparsity:
        return ""
    return (
        f"; dense {power(f.forward_dense)} and {power(f.training_dense - f.forward_dense)}. Ratio {f.reduction:.2f}x, "
        f"ceiling {f.ceiling:.2f}x: 1 / (1 - {f.converted_sparsity:.2f} x {f.linear_share:.3f}), with the share of the "
        "blocks' linear layers"
    )


_MOMENTS = {
    "loss": "when the backward pass begins",
    "first": "in the last block, on the way back",
    "last": "in the first block, on the way back",
    "end": "when the gradients are complete",
    "update": "while the optimizer works",
}


def _fits(one: StageCost, cost: RecipeCost) -> str:
    if cost.limit is None:
        return ""
    gb, largest = f"{cost.question.memory:g} GB", one.cost.largest_micro
    best = f"largest micro-batch is {largest}" if largest else "not even a micro-batch of 1 does"
    verdict = "fits" if one.cost.fits(cost.limit) else "does not fit"
    return f". It {verdict} in {gb} with micro-batch {one.micro}; {best}"


def _law(one: PredictedLoss, stage: StageCost) -> str:
    sparsity = stage.planned.sparsity
    what = "entries of linear layers" if one.law.counts == "linear" else "parameters"
    text = f"{one.law.name}: {one.loss:.3f}. "
    if sparsity > 0:
        text += (
            f"A {sparsity:.0%} sparse model of {count(one.size)} {what} acts like a dense one of {count(one.dense)} "
            f"({one.dense / one.size:.2f} of it). "
        )
    text += (
        f"With these FLOPs the best sparsity of the shape is {one.best.sparsity:.0%} on {count(one.best.tokens)} "
        f"tokens ({one.best.loss:.3f}), where zeros are skipped"
    )
    return text + "".join(f". Outside of the fit: {what}" for what in one.outside)


def _laws(cost: RecipeCost) -> str:
    """What to know of the laws that were used, once."""
    laws = {one.law.name: one.law for stage in cost.stages for one in stage.losses}
    lines = ["the laws of the loss"]
    for law in laws.values():
        lines += _item("", f"{law.name}: {law.source}, {'; '.join(law.limits)}")
    where = "multiplied by, as path materialise does, no operations are saved, and a best sparsity means nothing"
    return "\n".join([*lines, *_item("", f"where zeros are {where}")]) if laws else ""


def _groups(parameters: Parameters) -> str:
    parts = [
        f"{name} {count(group.positions)}" + (f" ({count(group.nonzero)})" if group.nonzero != group.positions else "")
        for name, group in parameters.groups.items()
        if group.positions
    ]
    sparse = parameters.nonzero != parameters.positions
    return f"{parameters.positions:,}: {', '.join(parts)}{'; non-zero in brackets' if sparse else ''}"


def _total(cost: RecipeCost) -> str:
    total = cost.total()
    flops = total["flops"]
    lines = ["in total"]
    if flops["needed"]:
        lines += _item(
            "FLOPs",
            f"{power(flops['needed'])} needed, {power(flops['dense'])} dense ({total['reduction']:.2f}x), "
            f"{power(flops['executed'])} executed by the paths of today",
        )
    lines += _item("memory a device", size(total["memory_per_device"]))
    lines += _item("disk", f"{size(total['disk'])} at most, checkpoints included")
    if total["seconds"] is not None:
        lines += _item("time", f"{duration(total['seconds'])} of training; validation and generation come on top")
    elif not any(one.speed for one in cost.stages):
        lines += _item("time", "unknown: give --tokens-per-second X, or --measure here")
    if total["unknown"]:
        lines += _item("left out", f"{', '.join(total['unknown'])}: their budgets are not known")
    note = "what driver and allocator keep for themselves comes on top of the memory"
    return "\n".join([*lines, *_item("note", note)])


def _item(name: str, text: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=f"  {name:<16}", subsequent_indent=" " * 18, break_on_hyphens=False
    )


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
             for row in rows]  # fmt: skip
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def count(number: float) -> str:
    """A count with three digits and a letter.

    >>> count(1_315_723_264), count(950), count(26_000_490_496)
    ('1.32B', '950', '26B')
    """
    for limit, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * limit:
            return f"{number / limit:.3g}{letter}"
    return f"{number:.3g}"


def power(number: float) -> str:
    """A number of operations with three digits.

    >>> power(94_759_692_013_733_412_864)
    '9.48e19'
    """
    return f"{number:.3g}".replace("e+", "e")


def size(num_bytes: float) -> str:
    """Bytes in decimal units.

    >>> size(30_906_246_672), size(512)
    ('30.9 GB', '512 B')
    """
    for limit, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if num_bytes >= 0.9995 * limit:
            return f"{num_bytes / limit:.3g} {unit}"
    return f"{num_bytes:.0f} B"


def duration(seconds: float | None) -> str:
    """A time in the unit that suits it.

    >>> duration(90), duration(5400), duration(None)
    ('90 s', '1.5 h', '?')
    """
    if seconds is None:
        return "?"
    for limit, unit in ((2 * 86400, "d"), (3600, "h"), (120, "min")):
        if seconds >= limit:
            return f"{seconds / {'d': 86400, 'h': 3600, 'min': 60}[unit]:.3g} {unit}"
    return f"{seconds:.3g} s"
