"""Checkpoints: everything that is needed to continue, in folders that are whole or not used."""

import json
import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from fallow.config import difference
from fallow.errors import UserError
from fallow.files import remove_folder, sweep
from fallow.shortages import DISK
from fallow.train import storage
from fallow.train.distributed import Mesh
from fallow.train.storage import SaveError, Tensors

log = logging.getLogger(__name__)

_STATE = "state.json"
_MOST = 3


class Checkpoints:
    """The checkpoints of one run: `<folder>/step-000120`, each with shards, `state.json` and a manifest.

    Args:
        folder: holds nothing else.
        mesh: the processes; all of them make every call.
        keep: how many stay.
    """

    def __init__(self, folder: Path, mesh: Mesh, keep: int) -> None:
        self.folder, self.mesh, self.keep = folder, mesh, keep

    def save(self, step: int, tensors: Tensors, state: dict[str, Any]) -> Path:
        """Write a checkpoint, then remove the oldest ones beyond `keep`.

        Raises:
            UserError: it could not be written, such as on a full disk; the ones before it are untouched.
        """
        path = self.folder / f"step-{step:06d}"
        try:
            storage.write_folder(path, tensors, {_STATE: state}, self.mesh)
        except SaveError as error:
            raise UserError(self._not_saved(step, error, tensors)) from None
        if self.mesh.is_main:
            for old in self._paths()[: -self.keep]:
                remove_folder(old)
        self.mesh.barrier()
        return path

    def newest(self, identity: dict[str, Any]) -> tuple[Path, dict[str, Any]] | None:
        """The newest whole checkpoint and its state, or None; says which partial or damaged ones it passes over.

        Args:
            identity: what the run must agree with.

        Raises:
            UserError: the checkpoint belongs to a run with another identity.
        """
        self._sweep()
        for path in reversed(self.mesh.broadcast_object(self._paths())):
            if problem := storage.damage(path, self.mesh):
                if self.mesh.is_main:
                    log.warning("checkpoint %s is damaged (%s) and is passed over.", path, problem)
                continue
            with reading_state(path):
                state = storage.read_json(path / _STATE)
                self._refuse_other(identity, state["identity"])
            return path, state
        if self.mesh.is_main and self._paths():
            log.warning("no whole checkpoint is left in %s; the run begins again.", self.folder)
        return None

    def read(self, path: Path, tensors: Tensors) -> None:
        """Fill tensors in place from one of the checkpoints."""
        storage.read_tensors(path, tensors, self.mesh)

    def describe(self, path: Path) -> dict[str, tuple[torch.Size, torch.dtype]]:
        """Shape and type of each tensor in one of the checkpoints."""
        return storage.describe_tensors(path)

    def states(self) -> list[dict[str, Any]]:
        """The states of all checkpoints that can be read, oldest first."""
        found = []
        for path in self._paths():
            try:
                found.append(storage.read_json(path / _STATE))
            except (OSError, ValueError):
                continue
        return found

    def _paths(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        named = [path for path in self.folder.iterdir() if re.fullmatch(r"step-\d+", path.name)]
        return sorted(named, key=lambda path: int(path.name.removeprefix("step-")))

    def _sweep(self) -> None:
        """Remove what a killed run was writing or removing."""
        if self.mesh.is_main:
            for name in sweep(self.folder):
                log.warning("checkpoint %s was not finished and is removed.", name.split(".")[1])
        self.mesh.barrier()

    def _refuse_other(self, here: dict[str, Any], there: dict[str, Any]) -> None:
        differences = difference(there, here)
        if not differences:
            return
        named = [f"{key} is {old} there and {new} here" for key, (old, new) in differences.items()]
        more = f" ({len(named) - _MOST} more differ)" if len(named) > _MOST else ""
        raise UserError(
            f"{self.folder.parent} was made by another recipe: {', '.join(named[:_MOST])}{more}. "
            "Use another --output, or --restart to begin again in an empty folder."
        )

    def _not_saved(self, step: int, error: SaveError, tensors: Tensors) -> str:
        room = ""
        if (not error.is_shortage or error.remedy == DISK.remedy) and self.folder.is_dir():
            needed = sum(t.numel() * t.element_size() for t in tensors.values())
            free = shutil.disk_usage(self.folder).free
            room = f"A checkpoint needs {_size(needed)}, {_size(free)} are free. "
        paths = self._paths()
        kept = f"The checkpoint of step {int(paths[-1].name[5:])} is whole" if paths else "No checkpoint exists yet"
        return (
            f"saving step {step} in {self.folder} failed: {error}. {room}{kept}. "
            f"{error.remedy} and run the same command again."
        )


@contextmanager
def reading_state(path: Path) -> Iterator[None]:
    """While the numbers of a checkpoint are read: one that is absent, though the checksums agree, is told as damage.

    Raises:
        UserError: names the file and the key, and how to go on.
    """
    try:
        yield
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        wrong = f"it has no {error.args[0]}" if isinstance(error, KeyError) else str(error)
        raise UserError(
            f"{path / _STATE} is damaged ({wrong}). Remove {path}, and the same command goes on from "
            "the checkpoint before it, or begins again."
        ) from error


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:,.2f} MB"
