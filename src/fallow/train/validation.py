"""What the validations so far say: which weights are the best, and whether to go on."""

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fallow.errors import UserError
from fallow.files import remove_folder
from fallow.train import storage
from fallow.train.distributed import Mesh
from fallow.train.settings import Validation


@dataclass(kw_only=True, slots=True)
class ValidationState:
    """The memory of all validations; part of a checkpoint."""

    last_step: int = -1
    """Step of the last validation; -1 before the first."""
    last: dict[str, float] = field(default_factory=dict)
    """What it measured."""
    best_step: int = -1
    """Step of the best one; -1 before the first."""
    best: dict[str, float] = field(default_factory=dict)
    """What was measured there."""
    num_worse: int = 0
    """Validations since."""

    def add(self, step: int, metrics: dict[str, float], settings: Validation) -> bool:
        """Take in one validation; says whether it is the best so far."""
        self.last_step, self.last = step, dict(metrics)
        cost = settings.cost(metrics)
        if math.isnan(cost) or (self.best and cost >= settings.cost(self.best)):
            self.num_worse += 1
            return False
        self.best_step, self.best, self.num_worse = step, dict(metrics), 0
        return True

    def is_enough(self, settings: Validation) -> bool:
        """Whether patience is used up."""
        return 0 < settings.patience <= self.num_worse

    def state_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Back to what `state_dict` said."""
        for name, value in state.items():
            setattr(self, name, value)


class BestWeights:
    """The weights of the best validation: `<folder>/step-000120`.

    The ones before stay until a checkpoint no longer speaks of them: a run that falls back to that checkpoint finds
    the weights that were the best then.
    """

    def __init__(self, folder: Path, mesh: Mesh) -> None:
        self.folder, self.mesh = folder, mesh

    def save(self, step: int, tensors: storage.Tensors) -> None:
        """Keep the weights of this step.

        Raises:
            UserError: they could not be written.
        """
        try:
            storage.write_folder(self._path(step), tensors, {}, self.mesh)
        except storage.SaveError as error:
            raise UserError(
                f"saving the best weights in {self.folder} failed: {error}. {error.remedy} and run again."
            ) from None

    def read(self, step: int, tensors: storage.Tensors) -> None:
        """Fill tensors in place with the weights of this step.

        Raises:
            UserError: they are damaged or gone.
        """
        if problem := storage.damage(self._path(step), self.mesh):
            raise UserError(
                f"the best weights, of step {step}, cannot be read ({problem} in {self._path(step)}). "
                "Restore that folder, or use --restart."
            )
        storage.read_tensors(self._path(step), tensors, self.mesh)

    def keep_only(self, steps: set[int]) -> None:
        """Remove all others."""
        if self.mesh.is_main and self.folder.is_dir():
            names = {self._path(step).name for step in steps}
            for path in self.folder.iterdir():
                if path.name not in names:
                    remove_folder(path)
        self.mesh.barrier()

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:06d}"
