"""The comparison as PNG files, drawn by matplotlib (the extra `report`)."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fallow.errors import UserError

Comparison = Mapping[str, Any]

_COLOURS = {"a": "#0b63c4", "b": "#c2410c", "change": "#0f7b53"}
_LABELS = {"a": "A", "b": "B", "change": "B - A"}


def check_matplotlib() -> None:
    """Refuse to draw where matplotlib is not installed.

    Raises:
        UserError: says how to install it, and what works without.
    """
    if find_spec("matplotlib") is None:
        raise UserError(
            "PNG files need matplotlib, which is not installed: pip install 'fallow[report]'. comparison.json and "
            "comparison.html do without"
        )


def draw(found: Comparison, folder: Path) -> list[Path]:
    """Write `distances.png`, and with spectra `spectra.png` and `residuals.png`.

    Args:
        found: what `fallow.analysis.compare.compare` gives.
        folder: where the files go; it exists.

    Raises:
        UserError: matplotlib is not installed.
    """
    check_matplotlib()
    written = [_distances(found, folder / "distances.png")]
    if found["spectra"]:
        written.append(_spectra(found, folder / "spectra.png"))
        written.append(_residuals(found, folder / "residuals.png"))
    return written


def _distances(found: Comparison, path: Path) -> Path:
    """Heat maps, layers down and matrices across, as SPDF's figures 3 and 4."""
    import numpy as np

    maps = [("Cosine distance", "distance"), ("Relative change", "change")]
    if any(row["density_a"] < 0.999 or row["density_b"] < 0.999 for row in found["rows"]):
        maps.append(("Overlap of supports (Jaccard)", "jaccard"))
    kinds, num_layers = found["kinds"], found["num_layers"]
    width, height = 1.2 + 0.85 * len(kinds), 1.7 + 0.3 * num_layers
    figure = _figure(width * len(maps), height)
    for place, (title, key) in enumerate(maps, 1):
        axes = figure.add_subplot(1, len(maps), place)
        values = np.full((num_layers, len(kinds)), np.nan)
        for entry in found["matrices"]:
            if entry[key] is not None:
                values[entry["layer"], list(kinds).index(entry["matrix"])] = entry[key]
        top = 1.0 if key == "jaccard" else float(np.nanmax(values, initial=0.0)) or 1.0
        image = axes.imshow(values, aspect="auto", cmap="YlGnBu", vmin=0.0, vmax=top)
        axes.set_title(title)
        axes.set_xticks(range(len(kinds)), list(kinds.values()), rotation=35, ha="right")
        axes.set_yticks(range(num_layers), [str(layer) for layer in range(num_layers)])
        axes.set_ylabel("layer")
        for (layer, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                colour = "white" if value > 0.6 * top else "black"
                axes.text(column, layer, f"{value:.2g}", ha="center", va="center", fontsize=7.5, color=colour)
        figure.colorbar(image, ax=axes, fraction=0.05)
    figure.suptitle(f"A: {found['a']['folder']}   B: {found['b']['folder']}", fontsize=9)
    figure.savefig(path, dpi=160)
    return path


def _spectra(found: Comparison, path: Path) -> Path:
    """Singular values, as SLTrain's figure 2, on a logarithmic axis."""

    def fill(axes: Any, entry: Mapping[str, Any]) -> None:
        for key, colour in _COLOURS.items():
            if key in entry and max(entry[key]["values"], default=0.0) > 0:
                values = entry[key]["values"]
                shown = [value if value > 1e-6 * values[0] else float("nan") for value in values]
                axes.plot(range(1, len(shown) + 1), shown, color=colour, label=_LABELS[key], linewidth=1.3)
        axes.set_yscale("log")
        axes.axvline(entry["rank"], color="grey", linestyle=":", linewidth=1)

    return _grid(found, path, fill, "Singular values", "number")


def _residuals(found: Comparison, path: Path) -> Path:
    """Share of entries whose magnitude after the first r singular values is below a value."""

    def fill(axes: Any, entry: Mapping[str, Any]) -> None:
        for key in ("a", "b"):
            quantiles = entry[key]["residual"]["quantiles"]
            axes.plot(quantiles, found["quantiles"], color=_COLOURS[key], label=_LABELS[key], linewidth=1.3)
        axes.axhline(0.97, color="grey", linestyle=":", linewidth=1)

    title = f"Share of entries below a magnitude, after rank {found['rank']} is taken away (dotted: 97%)"
    return _grid(found, path, fill, title, "magnitude")


def _grid(found: Comparison, path: Path, fill: Any, title: str, x_title: str) -> Path:
    kinds = list(found["kinds"])
    layers: Sequence[int] = sorted({entry["layer"] for entry in found["spectra"]})
    figure = _figure(2.5 * len(kinds), 2.2 * len(layers) + 0.8)
    for entry in found["spectra"]:
        row, column = layers.index(entry["layer"]), kinds.index(entry["matrix"])
        axes = figure.add_subplot(len(layers), len(kinds), row * len(kinds) + column + 1)
        fill(axes, entry)
        axes.set_title(f"layer {entry['layer']}, {found['kinds'][entry['matrix']]}", fontsize=9)
        axes.tick_params(labelsize=7.5)
        axes.grid(alpha=0.25)
        if row == len(layers) - 1:
            axes.set_xlabel(x_title, fontsize=8)
        if row == column == 0:
            axes.legend(fontsize=7.5)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=130)
    return path


def _figure(width: float, height: float) -> Any:
    # Without pyplot: no window system is asked for, and nothing global is left behind.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
