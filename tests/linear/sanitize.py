"""The kernels under the address and undefined-behaviour sanitizers: `make sanitize`, or

python tests/linear/sanitize.py [ROUNDS] [CALLS]

Compiles them twice: with a small program that calls them on random supports, without Python, and as the library of a
Python process that makes the random calls of `tests/attack/kernels.py`, right and wrong ones.
"""

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from fallow.linear.kernels.build import build, compiler

SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g", "-O1")
ROOT = Path(__file__).parents[2]

WATCHED = """
import sys
from pathlib import Path
from fallow.linear.kernels import build, library
build.LIBRARY = Path(sys.argv[1])
assert library.library() is not None, library.missing()
from tests.attack.kernels import run
counts = run(int(sys.argv[2]), seed=int(sys.argv[3]))
print(f"Python: {counts.total()} calls, {counts['right']} right, {counts['refused']} refused, {counts['wrong']} wrong")
sys.exit(1 if counts["wrong"] else 0)
"""


def main(rounds: str = "200", calls: str = "3000", seed: str = "0") -> int:
    """Build, run both, and give the first exit code that is not zero."""
    with tempfile.TemporaryDirectory() as folder:
        program = build(Path(folder) / "kernels", extra=SANITIZERS, main=Path(__file__).with_name("kernels_main.cpp"))
        code = subprocess.run([str(program), rounds], check=False).returncode
        return code or under_python(build(Path(folder) / "libfallow.so", extra=SANITIZERS), calls, seed)


def under_python(library: Path, calls: str, seed: str) -> int:
    """The exit code of a Python process with this library; the sanitizers must be loaded before all else."""
    runtime = [
        subprocess.run(
            [*shlex.split(compiler()), f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in ("libasan.so", "libubsan.so", "libstdc++.so.6")
    ]
    environment = {
        **os.environ,
        "LD_PRELOAD": " ".join(runtime),
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=2000",
        "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT))),
    }
    command = [sys.executable, "-c", WATCHED, str(library), calls, seed]
    return subprocess.run(command, env=environment, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
