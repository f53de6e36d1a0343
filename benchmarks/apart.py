"""`fallow run` in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def run_apart(recipe: str, output: Path, seed: int, *flags: str, root: str = "", threads: int = 0) -> dict[str, Any]:
    """What the command says with --json; the same call continues a run, and takes a finished one as it is.

    Args:
        recipe: a name or a file.
        output: its folder.
        seed: of the recipe.
        flags: more of the command's.
        root: folder of the data, for a recipe that has one.
        threads: of the process; 0 leaves that to it.

    Raises:
        SystemExit: the command failed, and said why.
    """
    command = [sys.executable, "-m", "fallow", "run", recipe, "--output", str(output), "--seed", str(seed), "--json"]
    command += [*(("--root", root) if root else ()), *flags]
    environment = {**os.environ, **({"OMP_NUM_THREADS": str(threads)} if threads else {})}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(done.returncode)
    return dict(json.loads(done.stdout))
