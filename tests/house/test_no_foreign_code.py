"""Nothing that can run code of a file is called, but in the places named here."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.source import SOURCE, python_files, tree

PLACES = {
    ("from_pretrained", "stock.py"): "the one place that opens folders of transformers, without their code",
    ("from_config", "stock.py"): "the same",
    ("torch.load", "train/tensor_index.py"): "pieces of a checkpoint: weights_only, and tensors alone",
    ("torch.load", "hf/released.py"): "weights of the released code: weights_only, after --pickle",
}
"""(call, file) -> why it may be there."""

MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
CALLS = {"eval", "exec", "__import__", "compile"}


def calls(module: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """Every call that reads what could be code, by the name it goes under in `PLACES`."""
    for node in ast.walk(module):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            last = name.rpartition(".")[2]
            if last in ("from_pretrained", "from_config"):
                yield last, node
            elif name in ("torch.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load", *CALLS):
                yield name, node
            elif last == "load" and any(key.arg == "allow_pickle" for key in node.keywords):
                yield "np.load", node
            elif last == "CDLL" and ast.unparse(node.args[0]) == "None":
                continue  # what the process has loaded anyway
            elif last in ("load_inline", "CDLL", "hub.load", "system", "popen", "getoutput"):
                yield last, node


def imported(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]


def problems(path: str, module: ast.Module) -> list[str]:
    found = [f"{path} imports {name}" for name in imported(module) if name in MODULES]
    for name, call in calls(module):
        where = f"{path}:{call.lineno}: {name}"
        keys = {key.arg: key.value for key in call.keywords}
        if (name, path) not in PLACES and not (name == "CDLL" and path.startswith("linear/kernels/")):
            found.append(f"{where} is called, which may run code of a file")
        if name == "torch.load" and not _is(keys.get("weights_only"), value=True):
            found.append(f"{where} without weights_only=True")
        has_code = name in ("from_pretrained", "from_config") and "GenerationConfig" not in ast.unparse(call.func)
        if has_code and not _is(keys.get("trust_remote_code"), value=False):
            found.append(f"{where} without trust_remote_code=False")
    for node in ast.walk(module):
        if isinstance(node, ast.keyword) and node.arg == "trust_remote_code" and not _is(node.value, value=False):
            found.append(f"{path}:{node.value.lineno}: trust_remote_code is not False")
        if isinstance(node, ast.keyword) and node.arg == "shell" and not _is(node.value, value=False):
            found.append(f"{path}:{node.value.lineno}: a shell is started")
    return found


def _is(node: ast.expr | None, *, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


@pytest.mark.parametrize("path", python_files(SOURCE), ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_no_foreign_code_is_run(path: Path) -> None:
    assert problems(path.relative_to(SOURCE).as_posix(), tree(path)) == []


def test_every_place_is_one() -> None:
    found = {
        (name, path.relative_to(SOURCE).as_posix()) for path in python_files(SOURCE) for name, _ in calls(tree(path))
    }
    assert set(PLACES) <= found, "take out what is not there any more"


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import Unpickler",
        "torch.load(file)",
        "torch.load(file, weights_only=True)",
        "np.load(file, allow_pickle=True)",
        "yaml.load(text, Loader=Loader)",
        "yaml.unsafe_load(text)",
        "AutoModel.from_pretrained(folder)",
        "AutoModel.from_pretrained(folder, trust_remote_code=False)",
        "read(folder, trust_remote_code=True)",
        "read(folder, trust_remote_code=wanted)",
        "eval(text)",
        "subprocess.run(text, shell=True)",
        "os.system(text)",
    ],
)
def test_the_rule_can_fail(text: str) -> None:
    assert problems("elsewhere.py", ast.parse(text))
