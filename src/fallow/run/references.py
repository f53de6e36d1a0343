"""The proportions of a stage's data: fixed, or following reference losses that are found once and kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from fallow.data.proportions import Following, Proportions, check_references
from fallow.errors import UserError
from fallow.files import read_json, read_sealed, unsealed, write_sealed
from fallow.integrity import FORMAT
from fallow.run.stage import Stage

NAME = "references.json"
"""In the folder of a stage: reference losses that were measured. A resumed run reads them."""

Measure = Callable[[nn.Module], dict[str, float]]
"""The validation of a stage on any model; gives `loss` and `loss/DOMAIN`."""


def proportions_of(
    stage: Stage,
    weights: dict[str, float],
    *,
    folder: Path,
    record_of: Callable[[str], dict[str, Any]],
    reference_model: Callable[[str, str], nn.Module],
    measure: Measure,
) -> Proportions | None:
    """What `Mixture` is told about shares; None for fixed ones.

    Args:
        stage: whose `mixture` says how.
        weights: of the sources, by domain.
        folder: of the stage; keeps the reference losses.
        record_of: the record of a finished stage.
        reference_model: (path, stage) -> the model that references are measured on.
        measure: see `Measure`.

    Raises:
        UserError: reference losses of other domains, or a file without them.
    """
    mixing = stage.mixture
    if mixing.rule == "fixed":
        return None
    if mixing.start:
        shares = record_of(mixing.start)["training"].get("shares") or {}
        if set(shares) != set(weights):
            raise UserError(
                f"mixture.start is {mixing.start}, which ended with shares of {', '.join(shares) or 'nothing'}, but "
                f"the domains are {', '.join(weights)}. Remove start, or give that stage a mixture rule."
            )
        weights = {name: shares[name] for name in weights}
    references = _references(stage, list(weights), folder, reference_model, measure)
    return Following(list(weights), list(weights.values()), mixing.terms(), references)


def _references(
    stage: Stage,
    names: list[str],
    folder: Path,
    reference_model: Callable[[str, str], nn.Module],
    measure: Measure,
) -> dict[str, float]:
    found = stage.mixture.references
    if found.losses:
        return dict(found.losses)
    if found.file:
        return read_references(Path(found.file), names)
    kept = folder / NAME
    if kept.is_file():
        plain = read_sealed(kept, "Delete it, and the same command measures again.", form=FORMAT)
        return {str(name): float(loss) for name, loss in plain["references"].items()}
    metrics = measure(reference_model(found.path, found.stage))
    losses = {name: metrics.get(f"loss/{name}", metrics["loss"]) for name in names}
    check_references(losses, names)
    folder.mkdir(parents=True, exist_ok=True)
    write_sealed(kept, {"format": FORMAT, "references": losses, "model": found.path or f"stage {found.stage}"})
    return losses


def read_references(path: Path, names: list[str]) -> dict[str, float]:
    """The reference losses in a file of `fallow reference`, or in any JSON object {"references": {domain: loss}}.

    Raises:
        UserError: the file is absent or holds something else, or other domains.
    """
    if not path.is_file():
        raise UserError(f"mixture.references.file is {path}, which does not exist. Make it with fallow reference.")
    again = "Make it with fallow reference."
    losses = unsealed(path, read_json(path, again), again).get("references")
    if not isinstance(losses, dict) or not all(isinstance(v, int | float) for v in losses.values()):
        raise UserError(f'{path} holds no reference losses: an object "references" of numbers by domain is expected.')
    check_references(losses, names)
    return {str(name): float(loss) for name, loss in losses.items()}
