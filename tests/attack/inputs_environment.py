"""Bad environments: variables that are no numbers, folders that are none, streams that are closed."""

import os
from collections.abc import Iterator
from pathlib import Path

from tests.attack.cases import Input

RUN = (
    "run",
    "recipe.yaml",
    "--output",
    "new",
    "--stages.all.budget.steps",
    "1",
    "--stages.0.schedule.warmup.steps",
    "0",
)
EVALUATE = ("evaluate", "out/tune/model", "--data", "text.jsonl", "--context", "16")
GENERATE = ("generate", "out/tune/model", "--prompt", "seed", "--max-new-tokens", "2")
COMMANDS = {"run": RUN, "evaluate": EVALUATE, "generate": GENERATE, "doctor": ("doctor",)}

NUMBERS = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT")
NO_NUMBERS = ("", "x", "-1", "0", "1", "1e3", "99999999999999999999", " 1", "0x1")
FOLDERS = (
    "HOME",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "HF_HOME",
    "HF_HUB_CACHE",
    "FALLOW_CACHE",
    "TORCH_HOME",
    "JAVA_HOME",
    "PWD",
)
NO_FOLDERS = ("", "/dev/null", "/dev/null/x", "/proc", "no such folder", "recipe.yaml", "a\nb", "x" * 300, "\udcff")
OTHERS = {
    "LC_ALL": ("C", "POSIX", "xx_YY.UTF-8", "\udcff"),
    "COLUMNS": ("0", "-1", "x", "1", "99999999"),
    "LINES": ("0", "x"),
    "TERM": ("", "dumb", "xterm", "\udcff"),
    "NO_COLOR": ("1",),
    "TZ": ("xx", "\udcff", "UTC+99"),
    "CC": ("", "false", "/no/such"),
    "CUDA_VISIBLE_DEVICES": ("", "x", "-1"),
    "MASTER_ADDR": ("", "no.such.host.invalid"),
    "SOURCE_DATE_EPOCH": ("x", "-1"),
    "OMP_NUM_THREADS": ("", "x", "0", "-1"),
    "PYTHONHASHSEED": ("x",),
    "TOKENIZERS_PARALLELISM": ("x", "true"),
    "TRANSFORMERS_VERBOSITY": ("x",),
    "FALLOW_DEBUG": ("x",),
}


def inputs(seed: int) -> Iterator[Input]:
    """Every variable with every value, for every command; the seed changes nothing."""
    for command, argv in COMMANDS.items():
        changes = [(name, value) for name in NUMBERS for value in NO_NUMBERS]
        changes += [(name, value) for name in FOLDERS for value in NO_FOLDERS]
        changes += [(name, value) for name, values in OTHERS.items() for value in values]
        changes += [(name, None) for name in ("HOME", "PATH", "LANG", "TERM", "USER")]
        for name, value in changes:
            yield Input(name=f"{command} with {name}={value!r:.20}", argv=argv, environment={name: value})
    yield from _streams()
    yield from _places()


def _streams() -> Iterator[Input]:
    """Standard streams that are closed or full when the command begins."""
    for command, argv in COMMANDS.items():
        for number, stream in enumerate(("stdin", "stdout", "stderr")):
            for target in ("/dev/full", "/dev/null", ""):
                name = f"{command} with {stream} {target or 'closed'}"
                yield Input(name=name, argv=argv, streams={number: target})


def _places() -> Iterator[Input]:
    """Outputs that are no folders, cannot be written, or have names that few expect."""
    names = (
        "/dev/null/x", "/proc/x", "recipe.yaml", "recipe.yaml/x", "", ".", "..", "out", "a\0b", "x" * 300, "a/" * 400,
        "link", "loop", "dangling", "locked", "locked/x", "caf\u00e9", "new\nline", "a b", "*", "-dash", "'\"",
        "\udcff", "fifo",
    )  # fmt: skip
    for name in names:
        for command in (
            ("run", "recipe.yaml"),
            ("prepare", "text.jsonl", "--vocab-size", "300"),
            ("cut", "out/tune/model", "--layers", "1"),
        ):
            argv = (*command, f"--output={name}") if command[0] != "run" else (*RUN[:2], "--output", name, *RUN[4:])
            yield Input(name=f"{command[0]} into {name!r:.40}", argv=argv, prepare=_make_places)


def _make_places(folder: Path) -> None:
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("nowhere/at/all")
    (folder / "link").symlink_to("out")
    (folder / "locked").mkdir(mode=0o500)
    os.mkfifo(folder / "fifo")
