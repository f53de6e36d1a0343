"""Whether what a stage is compared with will be there when it is judged."""

from collections.abc import Collection
from pathlib import Path

from fallow.errors import UserError
from fallow.run.judgements.texts import TEXTS
from fallow.run.stage import Stage


def require_others(stage: Stage, chosen: Collection[str], output: Path) -> None:
    """Refuse a comparison with texts that nobody will have written, before anything is trained.

    Raises:
        UserError: the file is absent, or the other stage is neither run now nor finished.
    """
    against = stage.evaluate.preference.against
    if not against or against in chosen:
        return
    where = Path(against) if stage.evaluate.preference.is_file else output / against / TEXTS
    if not where.is_file():
        what = "a file of responses" if stage.evaluate.preference.is_file else "an earlier stage, and run it first"
        raise UserError(f"stage {stage.name}: evaluate.preference.against: {where} does not exist. Name {what}")
