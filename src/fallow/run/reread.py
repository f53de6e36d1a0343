"""The results of a run's folder as its stages stand now, also while it runs or after it was broken off."""

from pathlib import Path
from typing import Any

from fallow.config import from_dict, read
from fallow.errors import UserError
from fallow.run.output import RECIPE, Output
from fallow.run.recipe import Recipe
from fallow.run.results import collect


def reread(folder: Path) -> dict[str, Any]:
    """What `results.json` would hold if the run ended now; stages that are not finished are left out.

    Raises:
        UserError: the folder is no run's, or its recipe or a stage's record cannot be read.
    """
    try:
        recipe = from_dict(Recipe, read(folder / RECIPE))
    except UserError as error:
        raise UserError(f"{folder / RECIPE} cannot be read: {error}") from None
    output = Output(folder)
    records = {}
    for stage in recipe.stages:
        record = output.finished(output.stage(stage.name))
        if record is not None:
            records[stage.name] = record
    return collect(recipe, records, {name: output.curve(output.stage(name)) for name in records})
