"""Work that one process does and the others find done."""

from collections.abc import Iterator
from contextlib import contextmanager

from fallow.errors import UserError
from fallow.train import Mesh


@contextmanager
def main_first(mesh: Mesh) -> Iterator[bool]:
    """The main process goes through the block first, the others after it; an error of the main process ends all."""
    if mesh.is_main:
        problem: str | None = None
        try:
            yield True
        except UserError as error:
            problem = str(error)
            raise
        finally:
            mesh.broadcast_object(problem)
        return
    problem = mesh.broadcast_object(None)
    if problem is not None:
        raise UserError(problem)
    yield False
