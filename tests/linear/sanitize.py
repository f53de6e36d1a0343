"""The kernels under the address and undefined-behaviour sanitizers: `make sanitize`, or

python tests/linear/sanitize.py [ROUNDS]

Compiles them, with a small program that calls them on random supports, and runs it; no Python is in the process that
is watched.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from fallow.linear.kernels.build import build

SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g", "-O1")


def main() -> int:
    """Build, run, and give the program's exit code."""
    with tempfile.TemporaryDirectory() as folder:
        program = build(Path(folder) / "kernels", extra=SANITIZERS, main=Path(__file__).with_name("kernels_main.cpp"))
        return subprocess.run([str(program), *sys.argv[1:]], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
