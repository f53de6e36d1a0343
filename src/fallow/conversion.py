"""Turn a stock model into one with reparametrised weights, and back."""

import fnmatch
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fallow.errors import UserError, nearest
from fallow.linear import ReparamLinear, Site, Sparse, Terms, linear_sites
from fallow.linear.cut import HEADS
from fallow.linear.inputs import block_names, dense_weight
from fallow.linear.paths import path_of
from fallow.linear.paths.fits import require_fit
from fallow.linear.planner import MEASURE
from fallow.linear.remembered import measured
from fallow.linear.reparam import Zeros
from fallow.linear.timing import can_be_timed
from fallow.methods import Method, method_of
from fallow.methods.base import AttachesModules, KeepsUpdate, reparam_layers
from fallow.random import Key
from fallow.supports import Support

log = logging.getLogger(__name__)

_SPARSE = 0.01
"""Share of zeros from which a base counts as sparse; a few lie in any model."""

_MERGED = "fallow_merged"
"""Attribute of a model in whose place `merge` returned another one."""

RECORD = "fallow_record"
"""Attribute of a converted model that holds its `Record`."""


@dataclass(frozen=True, slots=True)
class Record:
    """How a model was converted: enough to do it again."""

    method: Method
    targets: tuple[str, ...]
    seed: int
    path: str
    """As it was asked for; empty for the usual one of each layer."""

    frozen: tuple[str, ...] = ()
    """Parameters that the method does not train, and that were trainable before."""


@dataclass(frozen=True, slots=True)
class Converted:
    """One converted layer."""

    name: str
    shape: tuple[int, int]
    num_entries: int
    terms: str
    path: str
    why: str = ""
    """Why it is computed by this path."""

    @property
    def density(self) -> float:
        """Entries that can differ from zero over all entries."""
        return self.num_entries / (self.shape[0] * self.shape[1])


@dataclass(frozen=True, slots=True)
class ConversionReport:
    """What `convert` did: the layers it changed and the linear layers it left, with the reason."""

    converted: tuple[Converted, ...]
    left: tuple[tuple[str, str], ...]
    beside: str = ""
    """What the method put beside the layers."""

    lost: int = 0
    """Weights that were not zero and have no place in a support: what a dense pretrained model gives up."""

    @property
    def num_entries(self) -> int:
        """Entries of the converted weights that can differ from zero."""
        return sum(layer.num_entries for layer in self.converted)

    @property
    def num_positions(self) -> int:
        """Entries that the same weights would have if dense."""
        return sum(layer.shape[0] * layer.shape[1] for layer in self.converted)

    def __str__(self) -> str:
        """A table of a line a group of equal layers."""
        if not self.converted:
            what = f"put on {self.beside}" if self.beside else "converted nothing"
            return f"{what}; {len(self.left)} linear layers stay as they are"
        lines = [
            f"converted {len(self.converted)} layers: {self.num_entries:,} of {self.num_positions:,} entries "
            f"(sparsity {1 - self.num_entries / self.num_positions:.4f})"
        ]
        groups: dict[tuple[str, tuple[int, int], int, str, str, str], int] = {}
        for layer in self.converted:
            ending = layer.name.rpartition(".")[2]
            group = (ending, layer.shape, layer.num_entries, layer.terms, layer.path, layer.why)
            groups[group] = groups.get(group, 0) + 1
        for (ending, shape, entries, terms, path, why), count in groups.items():
            density = entries / (shape[0] * shape[1])
            lines.append(
                f"  {count:3d} x {ending} {shape[0]} x {shape[1]}: {terms}, density {density:.4f}, path {path} ({why})"
            )
        lines.extend(f"  left {name}: {reason}" for name, reason in self.left)
        return "\n".join(lines)


def convert(
    model: nn.Module,
    method: str | Method,
    *,
    targets: Sequence[str] | str = (),
    seed: int = 0,
    path: str = "",
    device: str = "",
    pretrained: bool = False,
    supports: Mapping[str, Support] | None = None,
    fisher: Mapping[str, Tensor] | None = None,
    **settings: object,
) -> ConversionReport:
    """Reparametrise the target weights of a model, in place.

    Args:
        model: any module; a Hugging Face causal LM, BERT or RoBERTa for the default targets to make sense.
        method: a method's name, with its settings as keyword arguments, or an instance from `fallow.methods`.
        targets: endings of layer names ("c_attn", "mlp.c_proj") or patterns with * over whole names. Empty means every
            linear layer of the repeated blocks: SPDF's six matrices in GPT-2, never embeddings, norms or the head.
        seed: with the name of a layer it determines the layer's support.
        path: how the layers are computed; see `fallow.linear.paths`. Empty: by a table of what was measured on common
            processors, the same in every run. "measure": by a measurement on this machine, layer shape by layer shape,
            at 1,024 tokens; it is made once and remembered in the user's cache folder.
        device: type of the device that will compute a model on meta, such as "cuda": usual paths are then those of such
            a device, and its own paths may be named where there is none. By default the device that the model is on.
        pretrained: the weights mean something already, so none is rescaled. SuPar's larger initial values are for fresh
            weights alone.
        supports: supports by name of layer that were chosen before, for methods that choose them by the weights; they
            are not chosen again then.
        fisher: mean squared gradients (d_out, d_in) by name of layer, for supports that are chosen by them.
        **settings: settings of the method, when it is given by name.

    Returns:
        What was converted and what was left, and with `pretrained` how many weights of a dense model were lost.

    Raises:
        UserError: unknown method, setting, path or target, a weight that is shared with another layer or would keep
            no entry, a model that is converted already, or with `pretrained` a sparse one whose weights have no
            place in the new supports; nothing is changed then.

    >>> net = nn.Sequential(nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 16)]), nn.Linear(16, 4))
    >>> report = convert(net, "sparse", sparsity=0.5)
    >>> report.num_entries, [name for name, reason in report.left]
    (96, ['1'])
    """
    if not isinstance(model, nn.Module):
        raise UserError(f"model is a {type(model).__name__}, but it must be a torch module")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise UserError(f"seed is {seed!r}, but it must be a whole number of at least 0")
    if isinstance(method, Method):
        if settings:
            raise UserError(
                f"{next(iter(settings))} has no effect beside a method instance. Give it to the method instead"
            )
    elif isinstance(method, str):
        method = method_of(method, **settings)
    else:
        raise UserError(
            f'method is {method!r}, but it must be a name or an instance. Write convert(model, "sparse", sparsity=0.75)'
        )
    if device and not any(parameter.is_meta for parameter in model.parameters()):
        raise UserError(f"device is {device}, but it is for models on meta alone. Move the model: model.to(...)")
    if path and path != MEASURE:
        path_of(path, planned=bool(device))
    if getattr(model, RECORD, None) is not None:
        raise UserError(
            f"this model is converted already, by method {getattr(model, RECORD).method.name}. "
            "Call fallow.merge(model) first"
        )
    sites = linear_sites(model)
    targets = (targets,) if isinstance(targets, str) else tuple(targets or ())
    chosen = match_targets(model, sites, targets)
    _refuse_shared(model, chosen)
    plan = method.plan(chosen, Key(seed))
    if targets and not plan:
        raise UserError(f"targets has no effect with method {method.name}, which converts no layer. Remove it")
    supports, fisher = supports or {}, fisher or {}
    plan = {
        name: terms.with_support(supports.get(name), fisher.get(name)) if name in {*supports, *fisher} else terms
        for name, terms in plan.items()  # a method may have given a support itself
    }
    if pretrained:
        plan = {name: terms.unscaled() for name, terms in plan.items()}
    for name, terms in plan.items():  # sizes are checked before anything is changed
        require_fit(path, name, terms, sites[name].shape)
        if isinstance(terms.sparse, Sparse) and not terms.sparse.num_entries(sites[name].shape[1]):
            d_out, d_in = sites[name].shape
            least = 1 / (d_out * d_in)
            raise UserError(
                f"this sparsity leaves no entry in {name} ({d_out} x {d_in}). Write at most {1 - least:g} "
                f"(a density of at least {least:g})"
            )
        if pretrained and not terms.keeps_weight:
            raise UserError(
                f"method {method.name} keeps nothing of a trained weight such as {name}: it would begin from random "
                "numbers. Begin with a new model, write base: frozen where the method has it, or use method dense"
            )
    converted = []
    lost = _lost_weights(model, plan, sites) if pretrained else 0
    for name, terms in plan.items():
        asked = "" if path == MEASURE else path
        layer = ReparamLinear.from_layer(model.get_submodule(name), sites[name], terms, asked, device)
        if path == MEASURE and can_be_timed(terms) and layer.device.type != "meta":
            narrow = next(layer.parameters()).dtype is torch.bfloat16
            layer.use(*measured(terms, layer.site.shape, 1024, layer.device, "bf16" if narrow else "fp32"))
        _replace(model, name, layer)
        present = "+".join(t for t in ("base", "low_rank", "sparse") if getattr(terms, t) is not None)
        converted.append(Converted(name, sites[name].shape, layer.nnz, present, layer.path, layer.why))
    kept, outside = f"method {method.name} keeps it", "not a target" if targets else "outside the blocks"
    left = tuple((name, kept if name in chosen else outside) for name in sites if name not in plan)
    left += tuple((name, f"{len(p)} matrices in one tensor") for name, p in model.named_parameters() if p.ndim == 3)
    beside = method.attach(model, Key(seed)) if isinstance(method, AttachesModules) else ""
    frozen = _freeze(model, method)
    if plan or beside:
        setattr(model, RECORD, Record(method, targets, seed, "" if path == MEASURE else path, frozen))
        guard(model)
    if lost:
        log.warning(f"{lost:,} weights that were not zero have no place in the supports of method {method.name}")
    return ConversionReport(tuple(converted), left, beside, lost)


@torch.no_grad()
def _lost_weights(model: nn.Module, plan: Mapping[str, Terms], sites: Mapping[str, Site]) -> int:
    """Weights that a sparse term alone would leave out, of a model that is dense.

    Raises:
        UserError: the model is sparse already, and the supports are others than its own.
    """
    lost = lost_of_sparse = 0
    for name, terms in plan.items():
        weight = dense_weight(model.get_submodule(name)).detach()
        if terms.base is not None or terms.low_rank is not None or terms.sparse is None or weight.is_meta:
            continue
        support = terms.sparse.support(weight)
        there = int(weight.count_nonzero())
        gone = there - int(weight.reshape(-1)[support.flat().to(weight.device)].count_nonzero())
        lost += gone
        lost_of_sparse += gone if there < (1 - _SPARSE) * weight.numel() else 0
    if lost_of_sparse:
        raise UserError(
            f"this would throw away {lost_of_sparse:,} trained weights: the model is sparse already, and these "
            "supports are other ones. Give the seed, sparsity, support, distribution and targets that it was trained "
            "with, or method dense"
        )
    return lost


def merge(model: nn.Module, *, zeros: Zeros = "fill") -> nn.Module:
    """Put stock layers back, with the same outputs; returns the stock model, which is the one to use from then on.

    It is the model itself, changed in place, unless the method makes another one: gates leave a smaller model, and the
    object that was given is then without gates and of no further use. A model that is not converted is returned as it
    is. What was sparse is an ordinary dense weight with zeros
    afterwards; it loads anywhere with `from_pretrained`.

    An update beside a base with zeros (a pruned model, or a sparse one that was tuned) fills them: the sum is dense,
    and a warning says how much sparsity is lost. `fallow.filling(model)` tells before.

    Args:
        model: converted.
        zeros: `keep` projects the update onto the entries that are not zero. The model stays sparse, and its outputs
            differ by what is left out; a warning says how much that is.

    Raises:
        UserError: what the method trained is no part of the weights, such as a prefix; nothing is changed then.
    """
    if getattr(model, _MERGED, False):
        raise UserError(
            "this model was merged into another one already. Use what fallow.merge returned, as in: model = "
            "fallow.merge(model)"
        )
    record: Record | None = getattr(model, RECORD, None)
    refuse_merging(model)
    if (filled := filling(model)).entries:
        log.warning(filled.warning(zeros))
    for name, layer in reparam_layers(model).items():
        merged = layer.merge(zeros)
        merged.train(layer.training)
        _replace(model, name, merged)
    if record is not None:
        for name, parameter in model.named_parameters():
            if name in record.frozen:
                parameter.requires_grad_(True)
        delattr(model, RECORD)
        if getattr(model, HEADS, None) is None:
            for name in _INSTEAD:
                vars(model).pop(name, None)
        if isinstance(record.method, AttachesModules):
            stock = record.method.detach(model)
            if stock is not model:
                setattr(model, _MERGED, True)
            return stock
    return model


def can_merge(model: nn.Module) -> bool:
    """Whether there is a stock model with the same outputs: what was trained is part of its weights."""
    record: Record | None = getattr(model, RECORD, None)
    return record is None or not isinstance(record.method, AttachesModules) or record.method.mergeable


def refuse_merging(model: nn.Module) -> None:
    """Stop where `can_merge` says no.

    Raises:
        UserError: names the method, and what can be done instead.
    """
    if not can_merge(model):
        raise UserError(
            f"what method {getattr(model, RECORD).method.name} trained is no part of the weights and cannot be merged: "
            "the model is used as it is (fallow.load, fallow generate, fallow evaluate), or with PEFT by the folder "
            "adapter in its own"
        )


@dataclass(frozen=True, slots=True)
class Filling:
    """What merging would do to the zeros of bases that are sparse, with updates beside them."""

    entries: int
    """Zeros that the updates would fill."""

    zeros: int
    """Zeros of these bases."""

    lost: float
    """Share of the updates' norm that keeping the zeros would leave out: ||dW at zeros|| / ||dW||, over all layers."""

    by_layer: dict[str, float]
    """The same layer by layer."""

    def warning(self, zeros: Zeros) -> str:
        """What to tell about a merge."""
        if zeros == "keep":
            return (
                f"merging keeps {self.zeros:,} zeros and leaves {self.lost:.1%} of the updates' norm out: outputs "
                "differ. Save the model unmerged to keep both"
            )
        return (
            f"merging fills {self.entries:,} of {self.zeros:,} zeros: these layers are dense then. Merge with zeros "
            "kept (--zeros keep), or save the model unmerged"
        )


@torch.no_grad()
def filling(model: nn.Module) -> Filling:
    """What merging would do to zeros. Bases with less than a hundredth of zeros do not count as sparse.

    >>> net = nn.Sequential(nn.ModuleList([nn.Linear(8, 8)]))
    >>> filling(net).entries
    0
    """
    entries = zeros = 0
    lost = whole = 0.0
    by_layer = {}
    for name, layer in reparam_layers(model).items():
        if layer.base is None or layer.base.is_meta or (layer.low_rank_a is None and layer.values is None):
            continue
        asleep = layer.base == 0
        num = int(asleep.sum())
        if num < _SPARSE * asleep.numel():
            continue
        update = layer.update_weight().double()
        outside = update[asleep]
        zeros += num
        entries += int(outside.count_nonzero())
        squares = float(update.square().sum()), float(outside.square().sum())
        by_layer[name] = (squares[1] / squares[0]) ** 0.5 if squares[0] else 0.0
        whole, lost = whole + squares[0], lost + squares[1]
    return Filling(entries, zeros, (lost / whole) ** 0.5 if whole else 0.0, by_layer)


def guard(model: nn.Module) -> None:
    """Let `save_pretrained` and `push_to_hub` of a model that is no stock one say so, or write a folder of ours."""
    for name, replacement in _INSTEAD.items():
        if hasattr(model, name):
            vars(model)[name] = partial(replacement, model)  # unlike a bound method it survives pickle and deepcopy


def planned(model: nn.Module, method: Method, *, targets: Sequence[str] = ()) -> list[str]:
    """The layers that `convert` would change.

    Raises:
        UserError: as `convert`, for targets that match nothing.
    """
    return list(method.plan(match_targets(model, linear_sites(model), targets), Key(0)))


def adopt(model: nn.Module, method: Method, *, targets: Sequence[str] = (), seed: int = 0) -> bool:
    """Let a converted model go on with a method of the same terms: its factors and entries stay as they are.

    What the method trains and what it drops in training may differ from before.

    Args:
        model: converted, perhaps pruned.
        method: the new one.
        targets: as in `convert`.
        seed: noted with the model; nothing is drawn.

    Returns:
        Whether it could; nothing is changed if not.
    """
    record: Record | None = getattr(model, RECORD, None)
    layers = reparam_layers(model)
    if record is None or not isinstance(method, KeepsUpdate):
        return False
    stock = linear_sites(model)
    sites = {
        name: layers[name].site if name in layers else stock[name]
        for name, _ in model.named_modules()
        if name in layers or name in stock
    }
    try:
        plan = method.plan(match_targets(model, sites, targets), Key(seed))
    except UserError:
        return False
    if plan.keys() != layers.keys() or not all(terms.goes_on(layers[name].terms) for name, terms in plan.items()):
        return False
    for name, terms in plan.items():
        layers[name].terms = terms
    parameters = dict(model.named_parameters())
    for name in record.frozen:
        parameters[name].requires_grad_(True)
    frozen = _freeze(model, method)
    setattr(model, RECORD, Record(method, tuple(targets), seed, record.path, frozen))
    return True


def match_targets(model: nn.Module, sites: dict[str, Site], targets: Iterable[str]) -> dict[str, Site]:
    """The sites that the targets name; without targets, every linear layer of the blocks.

    Raises:
        UserError: a target matches nothing; names the nearest ending, or all of them.
    """
    patterns = list(targets)
    for pattern in patterns:
        if not isinstance(pattern, str) or not pattern:
            raise UserError(f"targets holds {pattern!r}, but it must hold names of layers, such as c_attn")
    if not sites:
        raise UserError(f"{type(model).__name__} holds no linear layer that could be converted")
    if not patterns:
        blocks = tuple(f"{block}." for block in block_names(model))
        inside = {name: site for name, site in sites.items() if f"{name}.".startswith(blocks)} if blocks else {}
        if not inside:
            raise UserError(
                f"{type(model).__name__} has no repeated blocks with linear layers. Name the layers to convert: "
                f"targets={sorted({n.rpartition('.')[2] for n in sites})}"
            )
        return inside
    chosen: set[str] = set()
    for pattern in patterns:
        found = [name for name in sites if _matches(name, pattern)]
        if not found:
            endings = sorted({name.rpartition(".")[2] for name in sites})
            close = nearest(pattern, [*endings, *sites])
            hint = f'Did you mean "{close}"? ' if close else ""
            raise UserError(
                f'targets "{pattern}" match nothing in {type(model).__name__}. {hint}'
                f"Its linear layers end in: {', '.join(endings)}. "
                "Leave targets out to convert all linear layers of each block"
            )
        chosen.update(found)
    return {name: site for name, site in sites.items() if name in chosen}


def _matches(name: str, pattern: str) -> bool:
    if "*" in pattern or "?" in pattern or "[" in pattern:
        return fnmatch.fnmatchcase(name, pattern)
    return name == pattern or name.endswith(f".{pattern}")


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


def _freeze(model: nn.Module, method: Method) -> tuple[str, ...]:
    """Take the gradient from what the method does not train; returns the names of what had one."""
    parameters = dict(model.named_parameters())
    trained = method.trainable(parameters)
    if not trained and parameters:
        raise UserError(
            f"method {method.name} would train nothing of this {type(model).__name__}: it has no such parameters"
        )
    frozen = tuple(name for name, parameter in parameters.items() if parameter.requires_grad and name not in trained)
    for name in frozen:
        parameters[name].requires_grad_(False)
    return frozen


def _refuse_shared(model: nn.Module, chosen: dict[str, Site]) -> None:
    """A weight that two places use cannot become two: the model would no longer be the one that it was."""
    places: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        places.setdefault(id(parameter), []).append(name)
    for name in chosen:
        shared = [place for place in places[id(model.get_parameter(f"{name}.weight"))] if place != f"{name}.weight"]
        if shared:
            raise UserError(
                f"{name} shares its weight with {shared[0].removesuffix('.weight')}, so it cannot be converted alone. "
                "Leave it out of targets, or untie the two first (tie_word_embeddings=False for a head)"
            )


def _save_unmerged(
    model: nn.Module,
    save_directory: str | Path,
    is_main_process: bool = True,
    state_dict: dict[str, Any] | None = None,
    push_to_hub: bool = False,
    **_: object,
) -> None:
    """What `save_pretrained` does on a converted model: the folder of `fallow.save`, never a plain one.

    Sizes of files and the like, which the folder of `fallow.save` does not have, are passed over.
    """
    from fallow.folder import save

    if push_to_hub:
        _refuse_upload(model)
    if is_main_process:
        save(model, save_directory, state_dict=state_dict)


def _refuse_upload(model: nn.Module, *_: object, **__: object) -> None:
    """What `push_to_hub` does on a converted model: nobody could load it from there."""
    if getattr(model, RECORD, None) is None:
        raise UserError(
            "this model has fewer heads than its configuration can say, and from_pretrained could not load it. Use "
            "fallow.save(model, folder)"
        )
    raise UserError("this model is not merged, and from_pretrained could not load it. Call fallow.merge(model) first")


_INSTEAD = {"save_pretrained": _save_unmerged, "push_to_hub": _refuse_upload}
"""Methods of a stock model that would go wrong on a converted one, and what stands in for them until it is merged."""
