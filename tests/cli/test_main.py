"""The command: what it prints, and its exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fallow
from fallow.cli import main as cli
from fallow.cli.main import COMMANDS, main
from fallow.errors import UserError

SOURCE = str(Path(fallow.__file__).parents[1])


def shell(command: str) -> subprocess.CompletedProcess[str]:
    text = command.replace("fallow", f"{sys.executable} -m fallow")
    environment = os.environ | {"PYTHONPATH": SOURCE}
    return subprocess.run(["bash", "-c", text], capture_output=True, text=True, timeout=60, env=environment)


class Fake:
    """A command that raises."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def main(self, argv: list[str]) -> int:
        raise self.error


def fail_with(monkeypatch, error: BaseException, *flags: str) -> int:
    monkeypatch.setattr(cli.importlib, "import_module", lambda name: Fake(error))
    return main(["run", *flags])


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_has_examples_and_says_what_its_arguments_are(command, capsys) -> None:
    try:
        code = main([command, "--help"])
    except SystemExit as stop:
        code = stop.code
    text = capsys.readouterr().out
    assert code == 0
    assert "Examples:" in text
    assert "STR" not in text  # FOLDER, FILE, NAME and so on


def test_help_names_every_command(capsys) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in COMMANDS)
    assert main([]) == 0


def test_version(capsys) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"fallow {fallow.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rnu"], 'fallow rnu: unknown command "rnu". Did you mean "run"?'),
        (["--fast"], "fallow: --fast is not known here. Write a command first: fallow --help lists them."),
        (["recipes", "lst"], 'fallow recipes: unknown action "lst". Did you mean "list"?'),
        (["recipes", "show", "spdf-dmo"], "fallow recipes: there is no recipe spdf-dmo. Did you mean spdf-demo?"),
        (["recipes", "show"], "fallow recipes: Missing from fallow recipes show: NAME Name of the recipe."),
        (["doctor", "--jsn"], "fallow doctor: Unrecognized options: --jsn"),
        (["run"], "fallow run: which recipe?"),
        (["run", "spdf-demo", "--restart=1"], "fallow run: --restart takes no value"),
        (["run", "spdf-demo", "--sed", "1"], "fallow run: unknown key sed. Did you mean seed?"),
        (["run", "missing.yaml"], "fallow run: file missing.yaml does not exist."),
        (["demo", "--stages.0.method.sparsity", "1"], "fallow demo: unknown key stages.0.method.sparsity"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(arguments, message, capsys) -> None:
    assert main(arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(message)
    assert output.err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UserError("a\n b"), 2, "fallow run: a b\n"),
        (KeyboardInterrupt(), 130, "fallow run: interrupted.\n"),
        (ModuleNotFoundError("x", name="sacrebleu"), 1, "fallow run: package sacrebleu is not installed."),
        (OSError(28, "No space left on device"), 2, "fallow run: the disk is full. Free space and run the same"),
        (PermissionError(13, "Permission denied", "a/b"), 2, "fallow run: a/b cannot be used: Permission denied.\n"),
    ],
)
def test_failures(error, code, message, monkeypatch, capsys) -> None:
    assert fail_with(monkeypatch, error) == code
    assert capsys.readouterr().err.startswith(message)


def test_a_fault_of_fallow_keeps_its_traceback(monkeypatch) -> None:
    with pytest.raises(ZeroDivisionError):
        fail_with(monkeypatch, ZeroDivisionError())


def test_debug_shows_the_traceback(monkeypatch, capsys) -> None:
    assert fail_with(monkeypatch, UserError("bad"), "--debug") == 2
    assert "Traceback" in capsys.readouterr().err


def test_several_processes_say_which_one_fails(monkeypatch, capsys) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    fail_with(monkeypatch, UserError("bad"))
    assert capsys.readouterr().err == "fallow run (process 1): bad\n"


def test_a_reader_who_leaves_is_not_an_error() -> None:
    done = shell("set -o pipefail; fallow recipes show spdf-gpt2-small | head -n 1; echo ${PIPESTATUS[0]}")
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] in ("0", "141")
    done = shell("fallow recipes show spdf-gpt2-small | true; echo ${PIPESTATUS[0]}")
    assert done.stderr == ""


def test_list_and_show(capsys) -> None:
    assert main(["recipes", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    names = [row["name"] for row in rows]
    assert "spdf-demo" in names
    assert names == sorted(names, key=lambda name: (not name.endswith("demo"), name))
    assert main(["recipes", "show", "spdf-demo", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["stages"][0]["name"] == "pretrain-dense"


def test_copy(tmp_path, capsys) -> None:
    target = tmp_path / "new" / "mine.yaml"
    assert main(["recipes", "copy", "spdf-demo", str(target)]) == 0
    assert main(["recipes", "show", "spdf-demo"]) == 0
    assert capsys.readouterr().out.endswith(target.read_text())
    target.write_text("mine")
    assert main(["recipes", "copy", "spdf-demo", str(target)]) == 2
    assert target.read_text() == "mine"


def test_schema(capsys) -> None:
    assert main(["recipes", "schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert "Stage" in schema["$defs"]
    assert schema["properties"]["seed"]["description"].startswith("Seed of every stage")


def test_help_shows_the_recipes_own_values(capsys) -> None:
    assert main(["run", "spdf-demo", "--seed", "7", "--stages.0.optimizer.lr", "0.123", "--help"]) == 0
    text = capsys.readouterr().out
    assert "--seed (whole number)\n        Seed of every stage that gives none of its own. Now: 7\n" in text
    assert "--stages.STAGE.optimizer.lr (number)\n        Peak learning rate. Now: 0.123 in pretrain-dense; " in text
    assert "--stages.STAGE.method.sparsity (number)" in text
    assert "0.75 in pretrain-75, tune-75-sparse" in text


def test_print_gives_every_value(capsys) -> None:
    assert main(["run", "spdf-demo", "--print", "--seed", "3"]) == 0
    text = capsys.readouterr().out
    assert "seed: 3\n" in text
    assert "label_smoothing: 0.0\n" in text
    assert main(["run", "spdf-demo", "--print", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "spdf-demo"


def test_doctor(capsys, monkeypatch) -> None:
    from fallow.cli import checks

    monkeypatch.setattr(checks, "CHECKS", {"python": checks.python, "cores": checks.cores})
    assert main(["doctor", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == ["python", "cores"]
    monkeypatch.setattr(checks, "CHECKS", {"torch": lambda: 1 / 0})
    assert main(["doctor"]) == 1
    assert "FAIL  torch  ZeroDivisionError" in capsys.readouterr().out
