"""A stage's settings of the update as sizes, for estimates."""

from fallow.accounting.manner import Manner, States
from fallow.accounting.planned import PlannedModel
from fallow.errors import UserError
from fallow.run.stage import Stage
from fallow.train.optimizers.groups import projected_names
from fallow.train.optimizers.settings import SMALL, Optimizer


def manner_of(stage: Stage, planned: PlannedModel, processes: int = 1) -> Manner:
    """How a stage trains a model.

    Raises:
        UserError: a projection with nothing to project, of a rank that a matrix does not have, or on several processes.
    """
    settings = stage.update
    try:
        states = _states(settings, planned, processes)
    except UserError as error:
        raise UserError(f"stage {stage.name}: {error}") from None
    return Manner(states=states, update=settings.update, activations=stage.activations, reduce=stage.batch.reduce)


def _states(settings: Optimizer, planned: PlannedModel, processes: int) -> States:
    if not settings.moment_block and settings.projection is None and settings.weights == "model":
        return States()
    states = States(width=4, block=settings.moment_block, small=SMALL)
    if settings.projection is None:
        return states
    if processes > 1:
        settings.check_processes()
    return States(
        width=4,
        block=settings.moment_block,
        small=SMALL,
        rank=settings.projection.rank,
        projected=frozenset(projected_names(planned.model, settings.projection)),
    )
