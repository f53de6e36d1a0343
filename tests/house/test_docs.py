"""What README and documentation show works: Python blocks run, commands and recipes parse, links and quotes exist."""

import re
import runpy
import shlex
from pathlib import Path

import pytest
import yaml

from fallow.cli.arguments import parse_args
from fallow.cli.main import COMMANDS, command_module
from fallow.run.recipe import load
from tests.house.source import ROOT, SOURCE, python_files
from tests.house.test_readme import commands
from tests.house.test_readme import test_command as check_command

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SKIP = "<!-- not run -->"
"""On the line above a block that a test cannot run."""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(path: Path, language: str) -> list[str]:
    text = path.read_text(encoding="utf-8")
    found = re.findall(rf"^(.*)\n```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [block for before, block in found if before.strip() != SKIP]


WITH_PYTHON = [path for path in PAGES if blocks(path, "python")]
WITH_YAML = [path for path in PAGES if blocks(path, "yaml")]
TYPED = [(name_of(path), command) for path in PAGES for command in commands(name_of(path))]


def test_there_is_something_to_test() -> None:
    assert len(PAGES) > 10 and len(WITH_PYTHON) > 4 and len(WITH_YAML) > 3 and len(TYPED) > 50


@pytest.mark.parametrize("path", WITH_PYTHON, ids=name_of)
def test_python_blocks_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    names: dict[str, object] = {"__name__": "__main__"}
    for number, block in enumerate(blocks(path, "python")):
        exec(compile(block, f"{name_of(path)}, block {number}", "exec"), names)


@pytest.mark.parametrize(("page", "command"), [t for t in TYPED if t[0] != "README.md"], ids=lambda text: text)
def test_commands_exist(page: str, command: str, capsys: pytest.CaptureFixture) -> None:
    check_command(page, re.sub(r"^torchrun .* -m fallow ", "fallow ", command), capsys)


WITH_STAGES = [typed for typed in TYPED if "--only" in typed[1] and "make" not in typed[1]]


@pytest.mark.parametrize(("page", "command"), WITH_STAGES, ids=lambda text: text)
def test_only_names_stages(page: str, command: str) -> None:
    words = shlex.split(command, comments=True)
    recipe = words[words.index("run" if "run" in words else "estimate") + 1]
    assert load(recipe).lineage([words[words.index("--only") + 1]])


@pytest.mark.parametrize(("page", "command"), TYPED, ids=lambda text: text)
def test_flags_exist(page: str, command: str) -> None:
    """The flags of every command but `run`, whose dotted keys the test before this one reads with the recipe."""
    match shlex.split(command, comments=True):
        case ["fallow", name, *rest] if name in COMMANDS and hasattr(command_module(name), "Args"):
            parse_args(command_module(name).Args, f"fallow {name}", rest)
        case ["python", script, *_] if script.endswith(".py"):
            assert (ROOT / script).is_file()


@pytest.mark.parametrize("path", WITH_YAML, ids=name_of)
def test_yaml_blocks_are_recipes_or_parts_of_one(path: Path, tmp_path: Path) -> None:
    for block in blocks(path, "yaml"):
        assert yaml.safe_load(block)
        if block.startswith("name:"):
            file = tmp_path / "recipe.yaml"
            file.write_text(block)
            load(file)


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), f"{name_of(path)}: {target}"


def test_quoted_messages_are_those_of_the_source() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in python_files(SOURCE))
    headings = re.findall(r"^### (.*`.*)$", (ROOT / "docs" / "troubleshooting.md").read_text(), re.MULTILINE)
    quotes = [quote for heading in headings for quote in re.findall(r"`([^`]+)`", heading)]
    assert len(quotes) > 15
    assert [quote for quote in quotes if quote not in source] == []


def test_the_table_of_costs_is_what_the_script_counts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("sys.argv", ["count_cost.py"])
    runpy.run_path(str(ROOT / "examples" / "count_cost.py"), run_name="__main__")
    shown = re.search(r"<!-- table: examples/count_cost.py -->\n(.*?)<!-- /table -->", page("spdf.md"), re.DOTALL)
    assert shown is not None
    assert shown.group(1).strip() == capsys.readouterr().out.strip()


def test_results_have_their_places() -> None:
    for name in ("spdf-demo", "spdf-e2e"):
        readme = (ROOT / "README.md").read_text()
        assert readme.count(f"<!-- results:{name} -->") == readme.count(f"<!-- /results:{name} -->") == 1


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")
