"""The compiled library, loaded once: its functions, and why there is none where there is none."""

import ctypes
import functools
import os
from pathlib import Path

from fallow.linear.kernels import build
from fallow.shortages import refuse_shortage, shortage_of

ENVIRONMENT = "FALLOW_KERNELS"
"""Set to `off` to go without the kernels, or to an instruction set to use that one: portable, avx2, avx512."""

UNSOUND, OTHER_STRUCTURE = 2, 3

CODES = {
    1: "out of memory",
    UNSOUND: "the support is not sound: its pointers or columns do not ascend, or lie outside the matrix",
    OTHER_STRUCTURE: "the structure was made for another support or by another version",
    4: "a size that the kernels do not serve",
}


class Matrix(ctypes.Structure):
    """`fallow_matrix`."""

    _fields_ = (
        ("structure", ctypes.c_void_p),
        ("size", ctypes.c_int64),
        ("d_out", ctypes.c_int32),
        ("d_in", ctypes.c_int32),
        ("nnz", ctypes.c_int32),
        ("row_begin", ctypes.c_void_p),
        ("column", ctypes.c_void_p),
        ("values", ctypes.c_void_p),
        ("engine", ctypes.c_int32),
    )


class Library:
    """The functions of `fallow_kernels.h`."""

    def __init__(self, engine: str = "") -> None:
        """Load it.

        Args:
            engine: an instruction set by name; by default the best that the processor has.

        Raises:
            OSError: it cannot be loaded, was built from other sources, or has no such engine here; says which.
        """
        if not build.LIBRARY.exists():
            raise OSError("they were not built; run: python -m fallow.linear.kernels")
        found = ctypes.CDLL(str(build.LIBRARY))
        found.fallow_sources.restype = ctypes.c_char_p
        if found.fallow_sources().decode() != build.checksum():
            raise OSError("they were built from other sources; run: python -m fallow.linear.kernels")
        pointer, int64, int32, integer = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32, ctypes.c_int
        found.fallow_engine_name.restype = ctypes.c_char_p
        names = [found.fallow_engine_name(number) for number in range(found.fallow_num_engines())]
        self.engines = {name.decode(): number for number, name in enumerate(names) if name is not None}
        self.engine: str = engine or list(self.engines)[-1]
        if self.engine not in self.engines:
            raise OSError(f"{ENVIRONMENT} is {engine}, but this processor has {', '.join(self.engines)}")
        self.structure_build = found.fallow_structure_build
        self.structure_build.argtypes = [integer, int32, int32, pointer, pointer, integer, pointer, pointer]
        self.structure_free = found.fallow_structure_free
        self.structure_free.argtypes = [pointer]
        self.structure_facts = found.fallow_structure_facts
        self.structure_facts.argtypes = [pointer, int64, pointer]
        self.expected_bytes = found.fallow_structure_expected_bytes
        self.expected_bytes.argtypes, self.expected_bytes.restype = [integer, int32, int32, int64, integer], int64
        self.scratch_bytes = found.fallow_scratch_bytes
        self.scratch_bytes.argtypes = [integer, int32, int32, int64, integer, int64, integer]
        self.scratch_bytes.restype = int64
        self.forward = found.fallow_forward
        self.forward.argtypes = [pointer, pointer, int64, pointer, pointer, pointer, int64, int64, integer]
        self.one_token = found.fallow_one_token
        self.one_token.argtypes = [pointer, pointer, pointer, int32, ctypes.c_float, pointer, pointer, pointer, integer]
        self.backward = found.fallow_backward
        self.backward.argtypes = [pointer, pointer, int64, pointer, int64, pointer, pointer, pointer, int64, integer]


@functools.cache
def _load(choice: str) -> Library | str:
    if choice == "off":
        return f"{ENVIRONMENT}=off"
    try:
        return Library(choice)
    except (OSError, AttributeError) as error:
        if shortage_of(error) is not None:  # another time it loads: paths must not be chosen as if it did not
            with refuse_shortage(Path(build.LIBRARY.name), "loading"):
                raise
        return str(error)


def library() -> Library | None:
    """The library, or None where there is none."""
    found = _load(os.environ.get(ENVIRONMENT, ""))
    return found if isinstance(found, Library) else None


def missing() -> str:
    """Why there is no library; empty when there is one."""
    found = _load(os.environ.get(ENVIRONMENT, ""))
    return found if isinstance(found, str) else ""


def check(code: int) -> None:
    """Turn a code of the library into an exception.

    Raises:
        MemoryError, ValueError: what the code says.
    """
    if code == 1:
        raise MemoryError("the kernels could not get the memory for their tiles")
    if code:
        raise ValueError(f"the kernels refuse: {CODES.get(code, f'code {code}')}")
