"""Turn a stock model into one with reparametrised weights, and back."""

import fnmatch
import types
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from fallow.errors import UserError, nearest
from fallow.linear import ReparamLinear, Site, linear_sites
from fallow.linear.inputs import block_names
from fallow.linear.paths import path_of
from fallow.methods import Method, method_of
from fallow.methods.base import reparam_layers
from fallow.random import Key

RECORD = "fallow_record"
"""Attribute of a converted model that holds its `Record`."""


@dataclass(frozen=True, slots=True)
class Record:
    """How a model was converted: enough to do it again."""

    method: Method
    targets: tuple[str, ...]
    seed: int
    path: str


@dataclass(frozen=True, slots=True)
class Converted:
    """One converted layer."""

    name: str
    shape: tuple[int, int]
    num_entries: int
    terms: str
    path: str

    @property
    def density(self) -> float:
        """Entries that can differ from zero over all entries."""
        return self.num_entries / (self.shape[0] * self.shape[1])


@dataclass(frozen=True, slots=True)
class ConversionReport:
    """What `convert` did: the layers it changed and the linear layers it left, with the reason."""

    converted: tuple[Converted, ...]
    left: tuple[tuple[str, str], ...]

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
            return f"converted nothing; {len(self.left)} linear layers stay as they are"
        lines = [
            f"converted {len(self.converted)} layers: {self.num_entries:,} of {self.num_positions:,} entries "
            f"(sparsity {1 - self.num_entries / self.num_positions:.4f})"
        ]
        groups: dict[tuple[str, tuple[int, int], int, str, str], int] = {}
        for layer in self.converted:
            ending = layer.name.rpartition(".")[2]
            group = (ending, layer.shape, layer.num_entries, layer.terms, layer.path)
            groups[group] = groups.get(group, 0) + 1
        for (ending, shape, entries, terms, path), count in groups.items():
            density = entries / (shape[0] * shape[1])
            lines.append(
                f"  {count:3d} x {ending} {shape[0]} x {shape[1]}: {terms}, density {density:.4f}, path {path}"
            )
        lines.extend(f"  left {name}: {reason}" for name, reason in self.left)
        return "\n".join(lines)


def convert(
    model: nn.Module,
    method: str | Method,
    *,
    targets: Sequence[str] = (),
    seed: int = 0,
    path: str = "materialise",
    pretrained: bool = False,
    **settings: object,
) -> ConversionReport:
    """Reparametrise the target weights of a model, in place.

    Args:
        model: any module; a Hugging Face causal LM, BERT or RoBERTa for the default targets to make sense.
        method: a method's name, with its settings as keyword arguments, or an instance from `fallow.methods`.
        targets: endings of layer names ("c_attn", "mlp.c_proj") or patterns with * over whole names. Empty means every
            linear layer of the repeated blocks: SPDF's six matrices in GPT-2, never embeddings, norms or the head.
        seed: with the name of a layer it determines the layer's support.
        path: how the layers are computed; see `fallow.linear.paths`.
        pretrained: the weights mean something already, so none is rescaled. SuPar's larger initial values are for fresh
            weights alone.
        **settings: settings of the method, when it is given by name.

    Returns:
        What was converted and what was left.

    Raises:
        UserError: unknown method, setting, path or target, or a model that is converted
            already; nothing is changed then.

    >>> net = nn.Sequential(nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 16)]), nn.Linear(16, 4))
    >>> report = convert(net, "sparse", sparsity=0.5)
    >>> report.num_entries, [name for name, reason in report.left]
    (96, ['1'])
    """
    if isinstance(method, Method):
        if settings:
            raise UserError(
                f"{next(iter(settings))} has no effect beside a method instance. Give it to the method instead"
            )
    else:
        method = method_of(method, **settings)
    path_of(path)
    if getattr(model, RECORD, None) is not None:
        raise UserError(
            f"this model is converted already, by method {getattr(model, RECORD).method.name}. "
            "Call fallow.merge(model) first"
        )
    sites = linear_sites(model)
    chosen = match_targets(model, sites, targets)
    plan = method.plan(chosen, Key(seed))
    if pretrained:
        plan = {name: terms.unscaled() for name, terms in plan.items()}
    for name, terms in plan.items():  # sizes are checked before anything is changed
        if terms.sparse is not None:
            terms.sparse.num_entries(sites[name].shape[1])
    converted = []
    for name, terms in plan.items():
        layer = ReparamLinear.from_layer(model.get_submodule(name), sites[name], terms, path)
        _replace(model, name, layer)
        present = "+".join(t for t in ("base", "low_rank", "sparse") if getattr(terms, t) is not None)
        converted.append(Converted(name, sites[name].shape, layer.nnz, present, path))
    kept, outside = f"method {method.name} keeps it", "not a target" if targets else "outside the blocks"
    left = tuple((name, kept if name in chosen else outside) for name in sites if name not in plan)
    if plan:
        setattr(model, RECORD, Record(method, tuple(targets), seed, path))
        if hasattr(model, "save_pretrained"):
            vars(model)["save_pretrained"] = types.MethodType(_save_unmerged, model)
    return ConversionReport(tuple(converted), left)


def merge(model: nn.Module) -> nn.Module:
    """Put stock layers back, in place, with the same outputs; returns the model.

    A model that is not converted is returned as it is. What was sparse is an ordinary dense weight with zeros
    afterwards; it loads anywhere with `from_pretrained`.
    """
    for name, layer in reparam_layers(model).items():
        merged = layer.merge()
        merged.train(layer.training)
        _replace(model, name, merged)
    if getattr(model, RECORD, None) is not None:
        delattr(model, RECORD)
        vars(model).pop("save_pretrained", None)
    return model


def match_targets(model: nn.Module, sites: dict[str, Site], targets: Iterable[str]) -> dict[str, Site]:
    """The sites that the targets name; without targets, every linear layer of the blocks.

    Raises:
        UserError: a target matches nothing; names the nearest ending, or all of them.
    """
    patterns = list(targets)
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


def _save_unmerged(model: nn.Module, save_directory: str, **_: object) -> None:
    """What `save_pretrained` does on a converted model: the folder of `fallow.save`, never a plain one."""
    from fallow.folder import save

    save(model, save_directory)
