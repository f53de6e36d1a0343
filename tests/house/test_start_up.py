"""Start-up is free."""

import json
import os
import resource
import subprocess
import sys

import pytest

from tests.house.source import ROOT

HEAVY = ("torch", "transformers", "numpy", "yaml", "tyro", "rich")


def python(code: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded_after(code: str) -> set[str]:
    output = python(f"{code}\nimport sys, json\nprint()\nprint(json.dumps(sorted(sys.modules)))")
    return {name.partition(".")[0] for name in json.loads(output.splitlines()[-1])}


def test_help_loads_nothing_heavy() -> None:
    found = loaded_after("from fallow.cli.main import main; assert main(['--help']) == 0").intersection(HEAVY)
    assert not found


def test_help_takes_less_than_half_a_second_of_processor_time() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "usage: fallow" in python("from fallow.cli.main import main; main(['--help'])")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert spent < 0.5


def test_import_loads_neither_torch_nor_transformers() -> None:
    assert not loaded_after("import fallow").intersection(("torch", "transformers"))


@pytest.mark.parametrize("command", ["recipes list", "demo --help", "run --help", "recipes --help", "doctor --help"])
def test_these_do_without_torch(command) -> None:
    code = f"from fallow.cli.main import main\ntry: main({command.split()!r})\nexcept SystemExit: pass"
    assert not loaded_after(code).intersection(("torch", "transformers"))


def test_settings_do_without_torch() -> None:
    """Settings are read before anything heavy is paid for; their parents' `__init__` must be as light."""
    code = "import fallow.data.settings, fallow.train.settings, fallow.evaluate.decoding"
    assert not loaded_after(code).intersection(("torch", "transformers"))
