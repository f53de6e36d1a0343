"""Compile the kernels with the system's C++ compiler. Needs nothing but the standard library: the installation runs it.

    python -m fallow.linear.kernels

Each instruction set is a translation unit of its own with its own flags; the library picks one when it runs, so a
library built on one x86-64 machine serves all of them.
"""

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
LIBRARY = FOLDER / "libfallow.so"
"""Where the library lies; not part of the repository."""

FLAGS = ("-std=c++17", "-O3", "-ffp-contract=fast", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-psabi")

UNITS: dict[str, tuple[str, ...]] = {
    "driver.cpp": (),
    "structure.cpp": (),
    "threads.cpp": (),
    "engine_portable.cpp": (),
}
X86_UNITS: dict[str, tuple[str, ...]] = {
    "engine_avx2.cpp": ("-mavx2", "-mfma"),
    "engine_avx512.cpp": ("-mavx512f", "-mavx512vl", "-mavx512dq", "-mavx512bw", "-mfma"),
}


class BuildError(RuntimeError):
    """There is no compiler, or it could not compile the kernels."""


def sources() -> list[Path]:
    """The C++ files."""
    return sorted([*FOLDER.glob("*.cpp"), *FOLDER.glob("*.h")])


def checksum() -> str:
    """Of the sources and the kind of machine; the library carries it, so that one built from others is not used."""
    state = hashlib.sha256(f"{sys.platform} {platform.machine()}".encode())
    for path in sources():
        state.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return state.hexdigest()[:16]


def is_current(target: Path = LIBRARY) -> bool:
    """Whether the library is there and was built from these sources."""
    return target.exists() and checksum().encode() in target.read_bytes()


def compiler() -> str:
    """The C++ compiler: $CXX, or the first that is found.

    Raises:
        BuildError: none is there, or this system is not served.
    """
    if sys.platform == "win32":
        raise BuildError("the kernels are not built on Windows")
    for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++"):
        if name and shutil.which(shlex.split(name)[0]):
            return name
    raise BuildError("no C++ compiler was found (c++, g++, clang++, $CXX). Install one, such as the package g++")


def build(target: Path = LIBRARY, *, extra: tuple[str, ...] = (), main: Path | None = None) -> Path:
    """Compile into `target`, which appears whole or not at all.

    Args:
        target: the library, or the program when `main` is given.
        extra: more flags for compiling and linking, such as a sanitizer's.
        main: a C++ file with a `main`; the result is then a program.

    Raises:
        BuildError: with what the compiler said.
    """
    command = shlex.split(compiler())
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    units = {FOLDER / name: flags for name, flags in {**UNITS, **(X86_UNITS if x86 else {})}.items()}
    if main is not None:
        units[main] = (f"-I{FOLDER}",)
    defines = (f'-DFALLOW_SOURCES="{checksum()}"', *(("-DFALLOW_X86",) if x86 else ()))
    with tempfile.TemporaryDirectory() as temporary:
        running = []
        for number, (path, flags) in enumerate(units.items()):
            output = Path(temporary) / f"{number}.o"
            arguments = [*command, *FLAGS, *defines, *flags, *extra, "-c", str(path), "-o", str(output)]
            process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            running.append((output, arguments, process))
        for _, arguments, process in running:
            said, _ = process.communicate()
            if process.returncode:
                raise BuildError(f"the compiler failed: {shlex.join(arguments)}\n{said.decode()}")
        linked = Path(temporary) / target.name
        kind = () if main is not None else ("-shared",)
        libraries = ("-pthread", *(("-ldl",) if sys.platform == "linux" else ()))
        arguments = [*command, *kind, *extra, "-o", str(linked), *(str(output) for output, *_ in running), *libraries]
        done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if done.returncode:
            raise BuildError(f"the linker failed: {shlex.join(arguments)}\n{done.stdout.decode()}")
        beside = target.with_name(f"{target.name}.{os.getpid()}")
        shutil.copy2(linked, beside)
        beside.replace(target)
    return target


def main() -> int:
    """Build in place."""
    try:
        print(f"built {build()}")
    except BuildError as error:
        print(f"the kernels are not built: {error}", file=sys.stderr)
        return 1
    return 0
