"""How a density for the whole model is spread over its matrices."""

from collections.abc import Mapping

from fallow.errors import unknown

DISTRIBUTIONS = ("uniform", "er", "erk")
"""Names of the known distributions."""


def layer_densities(
    shapes: Mapping[str, tuple[int, int]], density: float, distribution: str = "uniform"
) -> dict[str, float]:
    r"""The density of each matrix, so that all together hold `density` of their entries.

    - `uniform`: every matrix gets `density` (SPDF, SLTrain).
    - `er` (Erdos-Renyi; SET, Mocanu et al., 2018): density_l = eps * (d_in + d_out) / (d_in * d_out), where eps makes
      the total right. Narrow matrices become denser; those that would pass 1 are set to 1 and eps is solved again.
    - `erk` (RigL, Evci et al., 2020) adds kernel sizes to `er`; a linear layer has none, so here both are the same.

    Args:
        shapes: (d_out, d_in) by name.
        density: share of all entries that exist, in (0, 1].
        distribution: one of `DISTRIBUTIONS`.

    >>> d = layer_densities({"wide": (64, 64), "narrow": (64, 16)}, 0.25, "er")
    >>> round(d["narrow"] / d["wide"], 2), round((d["wide"] * 4096 + d["narrow"] * 1024) / 5120, 6)
    (2.5, 0.25)
    """
    if distribution not in DISTRIBUTIONS:
        raise unknown("distribution", distribution, DISTRIBUTIONS)
    if distribution == "uniform":
        return dict.fromkeys(shapes, density)
    sizes = {name: d_out * d_in for name, (d_out, d_in) in shapes.items()}
    raw = {name: (d_out + d_in) / (d_out * d_in) for name, (d_out, d_in) in shapes.items()}
    full: set[str] = set()
    while True:
        rest = [name for name in shapes if name not in full]
        budget = density * sum(sizes.values()) - sum(sizes[name] for name in full)
        weight = sum(raw[name] * sizes[name] for name in rest)
        scale = budget / weight if rest else 0.0
        over = [name for name in rest if scale * raw[name] > 1.0]
        if not over:
            return {name: 1.0 if name in full else scale * raw[name] for name in shapes}
        full.update(over)
