"""Two model folders side by side: everything that a page, a table and a JSON file are made of."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from fallow import __version__
from fallow.analysis.distances import Distance, distance
from fallow.analysis.families import KINDS
from fallow.analysis.residuals import QUANTILES, residual
from fallow.analysis.spectra import Spectrum, composition, spectrum
from fallow.analysis.supports import Overlap, overlap
from fallow.analysis.weights import Weights, check_comparable
from fallow.errors import UserError

Spectra = Literal["some", "all", "none"]
Progress = Callable[[str], None]

COLUMNS: list[dict[str, Any]] = [
    {"key": "matrix", "title": "matrix"},
    {"key": "distance", "title": "cosine distance", "digits": 5},
    {"key": "largest", "title": "largest distance", "digits": 5},
    {"key": "largest_layer", "title": "in layer", "digits": 0},
    {"key": "change", "title": "relative change", "unit": "%", "digits": 2, "scale": 0.01},
    {"key": "ratio", "title": "norm B / A", "digits": 4},
    {"key": "density_a", "title": "not zero in A", "unit": "%", "digits": 2, "scale": 0.01},
    {"key": "density_b", "title": "not zero in B", "unit": "%", "digits": 2, "scale": 0.01},
    {"key": "jaccard", "title": "overlap (Jaccard)", "digits": 4},
    {"key": "chance", "title": "overlap by chance", "digits": 4},
]
"""The table with one row for each kind of matrix."""

_OF_SUPPORTS = ("density_a", "density_b", "jaccard", "chance")
"""Columns that a table of two dense models does without."""


def compare(
    a: str | Path, b: str | Path, *, rank: int = 0, spectra: Spectra = "some", progress: Progress | None = None
) -> dict[str, Any]:
    """Compare the weights of two model folders, block by block and matrix by matrix.

    Args:
        a: folder of the first model, usually the one before; plain or of `fallow.save`.
        b: folder of the second.
        rank: r of the residuals. 0 takes a quarter of the smallest side, as SLTrain's 128 of 512.
        spectra: singular values of the first, the middle and the last block (some), of every block (all), or not at
            all (none). They are what takes time: a decomposition of a 768 x 3072 matrix takes seconds.
        progress: told which layer is being read.

    Returns:
        A mapping of plain JSON: `a`, `b`, `kinds`, `num_layers`, `rank`, `columns` and `rows` (one for each kind of
        matrix), `matrices` (one for each matrix of each layer), `tensors` (all the others), `spectra`, `left_out`,
        `notes`. Layers count from 0. A value that does not exist (a distance from zero) is None.

    Raises:
        UserError: folders that hold no model, that are not comparable, or a rank that a matrix does not have.
    """
    first, second = Weights(a), Weights(b)
    check_comparable(first, second)
    kinds = [kind for kind in KINDS if any(kind in found for found in first.family.matrices.values())]
    rank = _rank(first, rank) if spectra != "none" else rank
    deep = _layers(first.num_layers, spectra)
    matrices: list[dict[str, Any]] = []
    details: list[dict[str, Any]] = []
    for layer in range(first.num_layers):
        if progress is not None:
            progress(f"layer {layer + 1} of {first.num_layers}")
        ours, theirs = first.matrices(layer), second.matrices(layer)
        matrices += [{"layer": layer, "matrix": kind, **_facts(ours[kind], theirs[kind])} for kind in kinds]
        if layer in deep:
            terms = {"a": first.low_rank(layer), "b": second.low_rank(layer)}
            for kind in kinds:
                parts = {side: found[kind] for side, found in terms.items() if kind in found}
                details.append({"layer": layer, "matrix": kind, **_spectra(ours[kind], theirs[kind], rank, parts)})
    tensors, left_out = _others(first, second)
    rows = [_row(kind, [m for m in matrices if m["matrix"] == kind]) for kind in kinds]
    return {
        "fallow": __version__,
        "a": _about(first, [m["nonzero_a"] for m in matrices], [m["size"] for m in matrices]),
        "b": _about(second, [m["nonzero_b"] for m in matrices], [m["size"] for m in matrices]),
        "num_layers": first.num_layers,
        "kinds": {kind: KINDS[kind] for kind in kinds},
        "rank": rank if details else None,
        "columns": [column for column in COLUMNS if column["key"] not in _OF_SUPPORTS or _is_sparse(rows)],
        "rows": rows,
        "matrices": matrices,
        "tensors": tensors,
        "quantiles": list(QUANTILES),
        "spectra": details,
        "left_out": left_out,
        "notes": _notes(rows, matrices, left_out, {"A": first, "B": second}),
    }


def _is_sparse(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether supports are worth a word: a few entries of a dense model that happen to be zero are not."""
    return any(row[key] < 0.999 for row in rows for key in ("density_a", "density_b"))


def _rank(weights: Weights, rank: int) -> int:
    """The asked-for rank, or a quarter of the smallest side of any matrix.

    K and V of models with fewer key heads than query heads are the smallest.
    """
    sides = {kind: min(matrix.shape) for kind, matrix in weights.matrices(0).items()}
    smallest = min(sides.values())
    if rank < 0 or rank > smallest:
        kind = next(kind for kind, side in sides.items() if side == smallest)
        raise UserError(f"rank is {rank}, but it must be between 1 and {smallest}, the smaller side of {KINDS[kind]}")
    return rank or max(1, smallest // 4)


def _layers(num_layers: int, spectra: Spectra) -> set[int]:
    if spectra == "none":
        return set()
    return set(range(num_layers)) if spectra == "all" else {0, (num_layers - 1) // 2, num_layers - 1}


def _facts(a: Tensor, b: Tensor) -> dict[str, Any]:
    return {"shape": list(a.shape), **_distance(distance(a, b)), **_overlap(overlap(a, b))}


def _distance(found: Distance) -> dict[str, Any]:
    return {
        "distance": found.cosine,
        "norm_a": found.norm_a,
        "norm_b": found.norm_b,
        "ratio": found.ratio,
        "change": found.change,
    }


def _overlap(found: Overlap) -> dict[str, Any]:
    derived = ("either", "jaccard", "chance", "share_a", "share_b")
    return {**asdict(found), **{key: getattr(found, key) for key in derived}}


def _spectra(a: Tensor, b: Tensor, rank: int, low_rank: Mapping[str, Tensor]) -> dict[str, Any]:
    found: dict[str, Any] = {"shape": list(a.shape), "rank": rank}
    for side, weight in (("a", a), ("b", b)):
        values, left = residual(weight, rank)
        found[side] = {**_spectrum(values, rank), "residual": {**asdict(left), "quantiles": list(left.quantiles)}}
        if side in low_rank:
            parts = composition(weight, low_rank[side])
            found[side]["composition"] = {"low_rank": list(parts.low_rank), "rest": list(parts.rest)}
    if bool((a != b).any()):
        found["change"] = _spectrum(spectrum(b.double() - a.double()), rank)
    return found


def _spectrum(found: Spectrum, rank: int) -> dict[str, Any]:
    return {
        "values": list(found.values),
        "energy": found.energy(rank),
        "stable_rank": found.stable_rank,
        "rank_90": found.rank_of(0.9),
    }


def _others(a: Weights, b: Weights) -> tuple[list[dict[str, Any]], list[str]]:
    """Everything outside the matrices: embeddings, norms, biases, heads; and what only one model has."""
    known = {name for layer in range(a.num_layers) for name in a.names_of(layer)}
    found, left_out = [], []
    for name in sorted(a.shapes.keys() | b.shapes.keys()):
        if name in known:
            continue
        if name not in a.shapes or name not in b.shapes:
            left_out.append(f"{name}: only in {(a if name in a.shapes else b).folder}")
        elif a.shapes[name] != b.shapes[name]:
            left_out.append(f"{name}: {list(a.shapes[name])} and {list(b.shapes[name])}")
        else:
            ours, theirs = a.tensor(name), b.tensor(name)
            found.append({"name": name, "shape": list(ours.shape), **_distance(distance(ours, theirs))})
    return found, left_out


def _row(kind: str, found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One kind of matrix over all layers: distances as means, norms and supports as if all layers were one vector."""
    known = [m for m in found if m["distance"] is not None]
    largest = max(known, key=lambda m: m["distance"], default=None)
    norm_a, norm_b = (math.hypot(*(m[key] for m in found)) for key in ("norm_a", "norm_b"))
    moved = math.hypot(*(m["change"] * m["norm_a"] for m in found if m["change"] is not None))
    support = reduce(add, (Overlap(m["size"], m["nonzero_a"], m["nonzero_b"], m["both"]) for m in found))
    return {
        "matrix": KINDS[kind],
        "distance": sum(m["distance"] for m in known) / len(known) if known else None,
        "largest": largest["distance"] if largest else None,
        "largest_layer": largest["layer"] if largest else None,
        "change": moved / norm_a if norm_a else None,
        "ratio": norm_b / norm_a if norm_a else None,
        "density_a": support.nonzero_a / support.size,
        "density_b": support.nonzero_b / support.size,
        "jaccard": support.jaccard,
        "chance": support.chance,
    }


def _about(weights: Weights, nonzero: Sequence[int], size: Sequence[int]) -> dict[str, Any]:
    return {
        "folder": str(weights.folder),
        "model_type": weights.model_type,
        "merged": not weights.unmerged,
        "positions": sum(size),
        "nonzero": sum(nonzero),
    }


def _notes(
    rows: Sequence[Mapping[str, Any]],
    matrices: Sequence[Mapping[str, Any]],
    left_out: Sequence[str],
    sides: Mapping[str, Weights],
) -> list[str]:
    notes = []
    known = [m for m in matrices if m["distance"] is not None]
    if all(m["change"] == 0 for m in matrices):
        notes.append("The matrices of all blocks are equal in both models.")
    elif known:
        most = max(known, key=lambda m: m["distance"])
        notes.append(
            f"The matrix that turned most is {KINDS[most['matrix']]} of layer {most['layer']}: cosine distance "
            f"{most['distance']:.3g}."
        )
    if len(known) < len(matrices):
        zero = [f"{KINDS[m['matrix']]} of layer {m['layer']}" for m in matrices if m["distance"] is None]
        notes.append(f"Zero in one model only, so without a distance: {', '.join(zero)}.")
    if _is_sparse(rows):
        notes.append(
            "Overlap counts entries that are not zero: 1 means the same support, and by chance is what two random "
            "supports of these densities would have."
        )
    if left_out:
        notes.append(f"Not compared, since they are not in both models in the same shape: {'; '.join(left_out)}.")
    for name, weights in sides.items():
        if weights.unmerged:
            notes.append(f"{name} is a folder that is not merged; what is compared is its merged weights.")
    return notes
