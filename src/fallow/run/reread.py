"""The results of a run's folder as its stages stand now, also while it runs or after it was broken off."""

from pathlib import Path
from typing import Any

from fallow.run.lineage import stages_of
from fallow.run.output import Output, read_recipe
from fallow.run.results import collect


def reread(folder: Path) -> dict[str, Any]:
    """What `results.json` would hold if the run ended now; stages that are not finished are left out.

    Raises:
        UserError: the folder is no run's, or its recipe or a stage's record cannot be read.
    """
    recipe, output = read_recipe(folder), Output(folder)
    records = stages_of(recipe, output)
    return collect(recipe, records, {name: output.curve(output.stage(name)) for name in records})
