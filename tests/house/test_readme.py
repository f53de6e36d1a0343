"""The commands in the README and in CONTRIBUTING work."""

import re
import shlex

import pytest

from fallow.cli.main import COMMANDS, main
from tests.house.source import ROOT

BLOCK = re.compile(r"^```(?:console|bash|sh)\n(.*?)^```", re.MULTILINE | re.DOTALL)
CHEAP = ("recipes list", "recipes show", "--version", "--help")
ELSEWHERE = ("git", "cd", "pip", "python", "python3", "source", ".venv/bin/python", "cat", "ls", "less", "open")


def commands(name: str) -> list[str]:
    """Lines that a reader would type."""
    path = ROOT / name
    if not path.is_file():
        return []
    blocks = BLOCK.findall(path.read_text(encoding="utf-8"))
    lines = [line for block in blocks for line in re.sub(r"\\\n\s*", " ", block).splitlines()]
    lines = [line.removeprefix("$ ").strip() for line in lines]
    return [part.strip() for line in lines if line and not line.startswith("#") for part in line.split("&&")]


ALL = [(name, command) for name in ("README.md", "CONTRIBUTING.md") for command in commands(name)]
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_there_are_commands() -> None:
    assert any(name == "CONTRIBUTING.md" for name, _ in ALL)


@pytest.mark.parametrize(("name", "command"), ALL, ids=[command for _, command in ALL])
def test_command(name, command, capsys) -> None:
    words = [word for word in shlex.split(command, comments=True) if "=" not in word or word.startswith("--")]
    match words:
        case ["make", *targets]:
            assert set(targets) <= TARGETS, f"{name}: the Makefile has no {set(targets) - TARGETS}"
        case ["torchrun", *_, "-m", "fallow", subcommand, recipe]:
            check_fallow([subcommand, recipe], capsys)
        case ["fallow" | ".venv/bin/fallow", *arguments]:
            check_fallow(arguments, capsys)
        case [first, *_]:
            assert first in ELSEWHERE, f"{name}: {first} is not checked; add it to this test"


def check_fallow(arguments: list[str], capsys) -> None:
    """Run what costs nothing; of the rest, see that the command exists and that a recipe takes these settings."""
    for stop in (">", "|", ";"):
        if stop in arguments:
            arguments = arguments[: arguments.index(stop)]
    if " ".join(arguments).startswith(CHEAP):
        assert main(arguments) == 0
        return
    command, *rest = arguments
    assert command in COMMANDS
    is_file = command == "run" and rest and rest[0].endswith((".yaml", ".yml"))
    if command in ("run", "demo") and not is_file:
        assert main([*arguments, "--help"]) == 0
        assert "usage: fallow" in capsys.readouterr().out
        return
    try:
        code = main([command, *(rest[:1] if command in ("recipes", "inspect") else []), "--help"])
    except SystemExit as stop:
        code = stop.code or 0
    assert code == 0
