"""A mixture that follows the losses, from the recipe to the report."""

import json
from pathlib import Path
from typing import Any

import pytest

from fallow.cli.main import main
from fallow.config import from_dict
from fallow.errors import UserError
from fallow.report.sections import mixture_points
from fallow.run.mixing import Mixing, References
from fallow.run.recipe import Recipe
from tests.run import tiny

SETTINGS: dict[str, Any] = {
    "name": "mixed",
    "device": "cpu",
    "tokenizer": {"vocab_size": 300},
    "datasets": {
        "text": {
            "kind": "text",
            "context": 16,
            "valid_share": 0.25,
            "sources": [{"path": "a.jsonl", "weight": 3.0}, {"path": "b.jsonl", "weight": 1.0}],
        }
    },
    "stages": [
        {
            "name": "small",
            "model": {"config": {"model_type": "gpt2", "n_layer": 1, "n_embd": 16, "n_head": 2, "n_positions": 16}},
            "method": {"name": "dense"},
            "dataset": "text",
            "budget": {"steps": 4},
            "batch": {"sequences": 8, "micro": 8},
            "optimizer": {"lr": 1e-3},
        },
        {
            "name": "follow",
            "model": {"stage": "small"},
            "method": {"name": "dense"},
            "dataset": "text",
            "budget": {"steps": 8},
            "batch": {"sequences": 8, "micro": 8},
            "optimizer": {"lr": 1e-3},
            "validation": {"every": {"steps": 2}, "first": True},
            "checkpoint": {"every": {"steps": 3}},
            "mixture": {"rule": "released", "references": {"losses": {"a": 2.0, "b": 1.0}}},
        },
        {
            "name": "on",
            "model": {"stage": "follow"},
            "method": {"name": "dense"},
            "dataset": "text",
            "budget": {"steps": 2},
            "batch": {"sequences": 8, "micro": 8},
            "optimizer": {"lr": 1e-3},
            "validation": {"every": {"steps": 1}},
            "mixture": {"rule": "stable", "references": {"stage": "small"}, "start": "follow"},
        },
    ],
}


def changed(**settings: Any) -> dict[str, Any]:
    """The recipe with other settings of its second stage."""
    stage = {**SETTINGS["stages"][1], **settings}
    return {**SETTINGS, "stages": [SETTINGS["stages"][0], stage, *SETTINGS["stages"][2:]]}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixed")
    for name, letters in (("a", "seed field rain"), ("b", "soil year grain")):
        lines = [json.dumps({"text": f"{letters} {i} " * 12}) for i in range(40)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "mixed.json").write_text(json.dumps(SETTINGS))
    recipe = folder / "mixed.yaml"
    recipe.write_text(json.dumps(SETTINGS))  # JSON is YAML
    found = tiny.run(recipe, folder / "out", "--root", str(folder))
    assert found.returncode == 0, found.stderr
    return folder


def log_of(output: Path, stage: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / stage / "log.jsonl").read_text().splitlines()]


def test_each_validation_moves_the_shares(run: Path) -> None:
    seen = [line["valid"] for line in log_of(run / "out", "follow") if "valid" in line]
    assert len(seen) == 5  # before the first step, and after 2, 4, 6 and 8
    share = 0.75
    for valid in seen:
        grown = (
            share * 2.718281828459045 ** (valid["loss/a"] - 2.0),
            (1 - share) * 2.718281828459045 ** (valid["loss/b"] - 1.0),
        )
        share = (1 - 1e-4) * grown[0] / sum(grown) + 1e-4 / 2
        assert abs(valid["share/a"] - share) < 1e-12
        assert abs(valid["gap/b"] - (valid["loss/b"] - 1.0)) < 1e-12
    assert share < 0.7


def test_a_later_stage_begins_with_those_shares_and_measures_its_references(run: Path) -> None:
    ended = json.loads((run / "out" / "follow" / "stage.json").read_text())["training"]["shares"]
    first = next(line["valid"] for line in log_of(run / "out", "on") if "valid" in line)
    assert abs(first["start/a"] - ended["a"]) < 1e-12
    kept = json.loads((run / "out" / "on" / "references.json").read_text())
    assert kept["model"] == "stage small"
    assert first["reference/a"] == kept["references"]["a"]


def test_the_report_shows_domains(run: Path) -> None:
    page = (run / "out" / "report.html").read_text()
    assert "Data mixture" in page and "share of the data" in page and "loss above its reference" in page
    # stage `on` is first validated after a step: its chart of shares begins with those that held until then
    points = mixture_points({"start": 0.75, "points": [[64, 2.0, 1.0, 0.7], [128, 1.0, 0.0, 0.6]]}, 3)
    assert points == [(0.0, 0.75), (64.0, 0.7), (128.0, 0.6)]
    assert mixture_points({"start": 0.75, "points": [[0, 2.0, 1.0, 0.7]]}, 3) == [(0.0, 0.7)]
    first = json.loads((run / "out" / "on" / "stage.json").read_text())["training"]
    assert first["validation_cost"] == pytest.approx(2.5)  # 30 sequences of each of two domains for 8 of training


def test_a_killed_run_ends_the_same(run: Path) -> None:
    whole = (run / "out" / "follow" / "log.jsonl").read_bytes()
    process = tiny.start(run / "mixed.yaml", run / "again", "--root", str(run))
    log = run / "again" / "follow" / "log.jsonl"
    while process.poll() is None and not (log.exists() and log.read_bytes().count(b"\n") >= 9):
        pass
    process.kill()
    process.wait()
    assert tiny.run(run / "mixed.yaml", run / "again", "--root", str(run)).returncode == 0
    assert log.read_bytes() == whole
    assert tiny.weights(run / "again", "on") == tiny.weights(run / "out", "on")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mixture": {"rule": "papr", "references": {"file": "x"}}}, "Did you mean paper"),
        ({"mixture": {"rule": "paper"}}, "references has nothing, but rule paper needs one of"),
        ({"mixture": {"references": {"file": "x"}}}, "references has no effect with rule fixed"),
        ({"mixture": {"rule": "paper", "references": {"losses": {"a": 1.0}}}}, "lack b"),
        ({"mixture": {"rule": "paper", "references": {"losses": {"a": 1, "c": 1}}}}, "hold c, which is no domain"),
        ({"mixture": {"rule": "paper", "references": {"stage": "on"}}}, "that stage comes later"),
        ({"validation": {}}, "follows validations, but validation.every is missing"),
        ({"mixture": {"rule": "stable", "references": {"file": "x"}, "ceiling": 0.5}}, "must be above 1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mistakes(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        from_dict(Recipe, changed(**settings))


def test_a_domain_without_held_out_text_is_refused() -> None:
    text = {**SETTINGS["datasets"]["text"], "valid_share": 0.0, "valid": [{"path": "a.jsonl"}]}
    with pytest.raises(UserError, match="has no held-out text of b"):
        from_dict(Recipe, {**SETTINGS, "datasets": {"text": text}})


def test_settings_change_the_rule() -> None:
    terms = Mixing(rule="released", references=References(file="x"), step_size=0.5, floor=0.0).terms()
    assert terms.step_size == 0.5 and terms.floor == 0.0


MODELS = {
    "models": [
        {"parameters": 6_738_415_616, "losses": {"cc": 1.7520, "github": 0.6216}},
        {"parameters": 13_015_864_320, "losses": {"cc": 1.6680, "github": 0.5791}},
        {"parameters": 68_976_648_192, "losses": {"cc": 1.4621, "github": 0.4890}},
    ]
}


def test_the_reference_command_gives_the_published_predictions(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    models, output = tmp_path / "models.json", tmp_path / "references.json"
    models.write_text(json.dumps(MODELS))
    flags = ["--parameters", "1345423360", "--output", str(output)]
    assert main(["reference", str(models), *flags]) == 0
    assert "cc" in capsys.readouterr().out
    found = json.loads(output.read_text())
    assert {name: round(loss, 4) for name, loss in found["references"].items()} == {"cc": 1.9643, "github": 0.7459}
    assert main(["reference", str(models), *flags, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == found


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "holds no models"),
        ({"models": [{"parameters": 1e9}]}, "models.0 lacks parameters or losses"),
        ({"models": [{"parameters": 1e9, "losses": {"a": "x"}}]}, "must be a finite number"),
        ({"models": [{"parameters": 1, "losses": {"a": 1}}, {"parameters": 2, "losses": {"b": 1}}]}, "some of the"),
        ({"models": MODELS["models"][:2]}, "domain cc"),
    ],
)
def test_mistakes_in_the_file_of_models(
    content: Any, message: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "models.json").write_text(json.dumps(content))
    assert main(["reference", str(tmp_path / "models.json"), "--parameters", "1e9"]) == 2
    assert message in capsys.readouterr().err
