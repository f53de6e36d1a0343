"""What `fallow doctor` looks at: one function for each thing."""

import importlib
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

State = Literal["ok", "note", "broken"]

EXTRAS = {
    "data": ("datasets",),
    "eval": ("sacrebleu", "lm_eval"),
    "meteor": ("pycocoevalcap",),
    "track": ("tensorboard",),
    "lowbit": ("bitsandbytes",),
    "kernels": ("triton",),
    "hf": ("accelerate", "peft"),
}
"""Extra -> the modules it brings."""


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at and what was found."""

    name: str
    state: State
    text: str


def all_checks() -> list[Check]:
    """Every check. One that raises is itself a finding, not the end of the others."""
    found = []
    for name, check in CHECKS.items():
        try:
            state, text = check()
        except Exception as error:
            state, text = "broken", f"{type(error).__name__}: {' '.join(str(error).split())}"
        found.append(Check(name, state, text))
    return found


def python() -> tuple[State, str]:
    """Version 3.11 or newer."""
    state: State = "ok" if sys.version_info >= (3, 11) else "broken"
    return state, f"{platform.python_version()} at {sys.executable}" + ("" if state == "ok" else "; 3.11 is needed")


def torch_build() -> tuple[State, str]:
    """Version, and what it was built for."""
    import torch

    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < (2, 6):
        return "broken", f"{torch.__version__}; 2.6 or newer is needed. Install: pip install torch==2.13.0"
    if torch.cuda.is_available():
        names = {torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())}
        return "ok", f"{torch.__version__}, {torch.cuda.device_count()} GPU: {', '.join(sorted(names))}"
    return "ok", f"{torch.__version__}, no GPU"


def torchvision_absent() -> tuple[State, str]:
    """A torchvision that does not fit torch breaks the models of transformers."""
    if importlib.util.find_spec("torchvision") is None:
        return "ok", "not installed, as it should be"
    try:
        importlib.import_module("torchvision")
    except Exception as error:
        return (
            "broken",
            f"does not fit torch ({type(error).__name__}) and breaks transformers: pip uninstall torchvision",
        )
    return "note", "installed; fallow does not need it, and a version that does not fit torch breaks transformers"


def transformers_version() -> tuple[State, str]:
    """Version 5, and its models can be imported."""
    version = metadata.version("transformers")
    if version.partition(".")[0] != "5":
        return "broken", f'{version}; version 5 is needed: pip install "transformers>=5,<6"'
    importlib.import_module("transformers").GPT2LMHeadModel  # noqa: B018 - loads the model code
    return "ok", version


def required() -> tuple[State, str]:
    """The other packages that fallow cannot do without."""
    names = ("safetensors", "numpy", "pyyaml", "tyro", "rich", "tokenizers")
    missing = []
    versions = []
    for name in names:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return "broken", f"missing: {', '.join(missing)}. Install: pip install {' '.join(missing)}"
    return "ok", ", ".join(versions)


def extras() -> tuple[State, str]:
    """Which extras are installed."""
    have = [name for name, modules in EXTRAS.items() if all(importlib.util.find_spec(m) for m in modules)]
    lack = [name for name in EXTRAS if name not in have]
    text = f"installed: {', '.join(have) or 'none'}"
    return "ok", text + (f"; not installed: {', '.join(lack)} (pip install 'fallow[{lack[0]}]')" if lack else "")


def processes() -> tuple[State, str]:
    """What several processes can talk over."""
    from torch import distributed

    if not distributed.is_available() or not distributed.is_gloo_available():
        return "note", "torch was built without gloo: several processes on CPU are not possible"
    return "ok", "gloo" + (", nccl" if distributed.is_nccl_available() else "")


def compiler() -> tuple[State, str]:
    """A C compiler builds the CPU kernels."""
    for name in (os.environ.get("CC", ""), "cc", "gcc", "clang"):
        if name and (path := shutil.which(name)):
            return "ok", path
    return "note", "none found: compiled CPU kernels and torch.compile are not available; everything else works"


def kernels() -> tuple[State, str]:
    """The compiled CPU kernels, which turn zeros into time."""
    from fallow.linear.kernels.library import library, missing

    found = library()
    if found is None:
        return "note", f"not available: {missing()}. Sparse layers run as fast as dense ones, not faster"
    return "ok", f"compiled, {found.engine} of {', '.join(found.engines)}"


def gpu_kernels() -> tuple[State, str]:
    """The paths for GPUs."""
    from fallow.linear.paths import GPU_PATHS, why_not

    reasons = {path: why_not(path).removeprefix("it is for GPUs: ") for path in GPU_PATHS}
    if not any(reasons.values()):
        return "ok", f"{', '.join(GPU_PATHS)}: fallow bench linear says whether they are faster here"
    if len(set(reasons.values())) == 1:
        return "ok", f"not used: {reasons[GPU_PATHS[0]]}"
    return "note", "; ".join(f"{path}: {reason or 'ready'}" for path, reason in reasons.items())


def cores() -> tuple[State, str]:
    """Cores that this process may use."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return "ok", f"{count} of {os.cpu_count()} ({platform.machine()})"


def memory() -> tuple[State, str]:
    """Memory of the machine."""
    if "SC_PHYS_PAGES" not in os.sysconf_names:
        return "note", "unknown on this system"
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return ("ok" if gigabytes >= 4 else "note"), f"{gigabytes:.1f} GB"


def disk() -> tuple[State, str]:
    """Room in the current folder."""
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    return ("ok" if free >= 2 else "note"), f"{free:.1f} GB free in {Path.cwd()}"


def embedded_corpus() -> tuple[State, str]:
    """The standard library's source, which the demo trains on."""
    folder = Path(os.__file__).parent
    sources = list(folder.glob("*.py"))
    if len(sources) < 50:
        return "note", f"the source of the standard library is not in {folder}; embedded:stdlib and fallow demo need it"
    topics = importlib.util.find_spec("pydoc_data.topics") is not None
    return "ok", f"standard library in {folder}" + (", language reference" if topics else "; no language reference")


def recipes() -> tuple[State, str]:
    """The shipped recipes can be read."""
    from fallow.run import recipe, shipped

    for name in shipped.names():
        recipe.load(name)
    return "ok", ", ".join(shipped.names())


CHECKS: dict[str, Callable[[], tuple[State, str]]] = {
    "python": python,
    "torch": torch_build,
    "torchvision": torchvision_absent,
    "transformers": transformers_version,
    "packages": required,
    "extras": extras,
    "processes": processes,
    "compiler": compiler,
    "kernels": kernels,
    "GPU kernels": gpu_kernels,
    "cores": cores,
    "memory": memory,
    "disk": disk,
    "embedded corpus": embedded_corpus,
    "recipes": recipes,
}
