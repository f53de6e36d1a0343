"""Recipes parse, the changelog is kept, nothing names one machine, nothing forbidden is installed."""

import importlib.util
import itertools
import re
import subprocess
import tomllib

import pytest

import fallow
from fallow.config import dump, from_dict, parse
from fallow.run import shipped
from fallow.run.recipe import Recipe, load
from tests.house.source import ROOT, python_files


@pytest.mark.parametrize("name", shipped.names())
def test_every_recipe_parses_and_survives_its_own_dump(name) -> None:
    recipe = load(name)
    assert recipe.name == name
    assert recipe.description
    assert from_dict(Recipe, parse(dump(recipe))) == recipe


def test_recipes_are_package_data() -> None:
    assert {"spdf-demo", "spdf-e2e", "spdf-gpt2-small", "spdf-gpt3-xl"} <= set(shipped.names())
    assert (ROOT / "src" / "fallow" / "py.typed").is_file()


def test_the_changelog_is_kept() -> None:
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] in ("Unreleased", fallow.__version__)


def test_versions_agree() -> None:
    assert f"version: {fallow.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def text_files() -> list:
    """What git would take; outside a repository, the sources."""
    done = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode:
        return python_files(ROOT / "src") + python_files(ROOT / "tests")
    paths = [ROOT / line for line in done.stdout.splitlines()]
    return [path for path in paths if path.suffix not in (".png", ".gz", ".safetensors") and path.is_file()]


MACHINE = re.compile(r"(?<![\w.])/(?:home|root|Users|work|opt|mnt|tmp)/\w")


def test_no_file_names_one_machine() -> None:
    found = []
    for path in text_files():
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if MACHINE.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert not found, "\n".join(found)


def test_sources_are_ascii() -> None:
    paths = python_files(ROOT / "src") + sorted((ROOT / "src").rglob("*.yaml"))
    found = [str(path.relative_to(ROOT)) for path in paths if not path.read_text(encoding="utf-8").isascii()]
    assert not found


def test_torchvision_is_absent() -> None:
    """A torchvision that does not fit torch breaks the models of transformers."""
    assert importlib.util.find_spec("torchvision") is None


def requirements() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]


def test_torchvision_is_asked_for_nowhere() -> None:
    pins = (ROOT / "constraints.txt").read_text()
    for name in ("torchvision", "litdata", "mosaicml-streaming"):
        assert name not in pins
        assert not any(entry.startswith(name) for entry in requirements())


def test_every_dependency_is_pinned_in_the_constraints() -> None:
    pins = {
        line.partition("==")[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().split()
    }
    names = {re.match(r"[\w.-]+", entry).group().lower() for entry in requirements()}
    # no version of pycocoevalcap was tried together with the others
    assert names - pins - {"fallow", "pycocoevalcap"} == set()
