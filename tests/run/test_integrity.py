"""One flipped bit anywhere in the folder of a run is named in one line, or changes nothing that a command then does."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fallow.cli.main import main
from fallow.train import Loop
from tests.run.tiny import told, write_recipe

RECIPE = """
name: chain
seed: 1
device: cpu
tokenizer: {{vocab_size: 300}}
datasets:
  text:
    kind: text
    sources:
      - {{path: "{folder}/text.jsonl", domain: one}}
      - {{path: "{folder}/pairs.jsonl", field: target, domain: two}}
    context: 16
    valid_share: 0.2
  pairs: {{kind: pairs, format: jsonl, train: "{folder}/pairs.jsonl", valid: "{folder}/pairs.jsonl", context: 64}}
x-stage: &stage
  batch: {{sequences: 4, micro: 4}}
  optimizer: {{lr: 1e-3}}
  schedule: {{warmup: {{steps: 1}}}}
stages:
  - <<: *stage
    name: first
    model:
      config: {{model_type: llama, num_hidden_layers: 2, hidden_size: 32, num_attention_heads: 4, intermediate_size: 48,
               num_key_value_heads: 2, max_position_embeddings: 64}}
    method: {{name: dense}}
    dataset: text
    budget: {{steps: 3}}
    validation: {{every: {{steps: 2}}}}
  - <<: *stage
    name: second
    model: {{stage: first, cut: {{to: {{inner: 24}}, by: magnitude}}}}
    method: {{name: dense}}
    dataset: text
    budget: {{steps: 2}}
    validation: {{every: {{steps: 1}}}}
    mixture: {{rule: stable, references: {{stage: first}}}}
  - <<: *stage
    name: third
    model: {{stage: second, moments: true}}
    method: {{name: dense}}
    dataset: text
    budget: {{steps: 2}}
  - <<: *stage
    name: fourth
    model: {{stage: third}}
    method: {{name: dsee, rank: 2, entries: 8}}
    dataset: pairs
    budget: {{steps: 2}}
    evaluate: {{decoding: {{max_new_tokens: 4, max_contexts: 3}}}}
  - <<: *stage
    name: fifth
    model: {{stage: fourth}}
    method: {{name: dsee, rank: 2, entries: 8}}
    dataset: pairs
    budget: {{steps: 2}}
    evaluate: {{decoding: {{max_new_tokens: 4, max_contexts: 3}}}}
"""

TIMES = re.compile(rb'("(?:seconds|tokens_per_second|speed|sha256|time|ms|eta)": )[^,\n}]+')


class Killed(BaseException):
    """What no handler catches, as a kill is not."""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_recipe(tmp_path_factory.mktemp("recipe")).parent
    path = folder / "chain.yaml"
    path.write_text(RECIPE.format(folder=folder))
    return path


@pytest.fixture(scope="module")
def whole(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; copied by those who harm it."""
    output = tmp_path_factory.mktemp("runs") / "whole"
    assert main(["run", str(recipe), "--output", str(output)]) == 0
    return output


def flip(path: Path, share: float) -> None:
    raw = bytearray(path.read_bytes())
    raw[int(share * len(raw))] ^= 1 << 1
    path.write_bytes(raw)


def made(output: Path) -> dict[str, bytes]:
    """All files of a run but those that never repeat, with times and what follows from them left out."""
    return {
        path.relative_to(output).as_posix(): TIMES.sub(rb"\1", path.read_bytes())
        for path in sorted(output.rglob("*"))
        if path.is_file() and path.name not in ("timing.jsonl", "README.md", "report.html")
    }


NAMES = (
    "recipe.yaml results.json report.html tokenizer/tokenizer.json tokenizer/tokenizer_config.json "
    "tokenizer/fallow-tokenizer.json "
    + " ".join(f"data/text/{name}-{part}/{file}" for name in ("one", "two") for part in ("train", "valid")
               for file in ("index.json", "shard-00000.bin"))
    + " "
    + " ".join(f"{stage}/{file}" for stage in ("first", "second", "third", "fourth", "fifth")
               for file in ("begun.json", "recipe.yaml", "stage.json", "log.jsonl", "timing.jsonl", "model/README.md",
                            "model/config.json", "model/fallow-stage.json", "model/generation_config.json",
                            "model/model.safetensors", "model/tokenizer.json", "model/tokenizer_config.json"))
    + " second/fallow-kept.safetensors second/model/fallow-kept.safetensors second/references.json "
    "second/fallow-moments.safetensors"
    + " "
    + " ".join(f"{stage}/{file}" for stage in ("fourth", "fifth")
               for file in ("paths.json", "supports.safetensors", "texts.jsonl", "unmerged/config.json",
                            "unmerged/fallow.json", "unmerged/fallow.safetensors", "unmerged/fallow-stage.json",
                            "unmerged/generation_config.json"))
).split()  # fmt: skip
"""Every file of that run."""

HARMLESS = ("report.html", "timing.jsonl", "README.md", "first/recipe.yaml", "second/recipe.yaml", "third/recipe.yaml",
            "fourth/recipe.yaml", "fifth/recipe.yaml", "begun.json")  # fmt: skip
"""Nothing reads these once the stage is finished: made anew, or for people alone."""

REPORTED = ("recipe.yaml", "results.json")


def test_every_file_of_the_run_is_in_the_list(whole: Path) -> None:
    assert sorted(made(whole).keys() | {name for name in NAMES if name.endswith(HARMLESS[:3])}) == sorted(NAMES)


def harmed(whole: Path, output: Path, name: str, share: float) -> Path:
    """A copy by hard links, but for the file that is harmed; what a run writes anew never goes through a link."""
    shutil.copytree(whole, output, copy_function=os.link)
    (output / name).unlink()
    shutil.copy2(whole / name, output / name)
    flip(output / name, share)
    return output


@pytest.fixture
def again(recipe: Path) -> Callable[[Path], int]:
    return lambda output: main(["run", str(recipe), "--output", str(output)])


@pytest.mark.parametrize(("number", "name"), list(enumerate(NAMES)), ids=NAMES)
def test_a_flipped_bit_is_named_or_harmless(
    number: int,
    name: str,
    whole: Path,
    again: Callable[[Path], int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = harmed(whole, tmp_path / "run", name, (0.5, 0.8)[number % 2])
    capsys.readouterr()
    code = again(output)
    if code == 0:  # not used when all is finished; a stage that is made once more may need it
        shutil.rmtree(output / "third")
        capsys.readouterr()
        code = again(output)
    if code == 0:
        found = made(output)
        expected = {**made(whole), **({name: found[name]} if name.endswith(HARMLESS) and name in found else {})}
        assert found == expected
        return
    assert code == 2
    line = told(capsys)
    assert str(output / name) in line or str((output / name).parent) in line, line
    assert re.search("[Rr]estore|Delete|Use another", line), line


def models() -> Iterator[str]:
    yield from (name for name in NAMES if "/model/" in name and not name.endswith(HARMLESS) and name[:5] == "third")
    yield from (name for name in NAMES if name.startswith("fourth/unmerged/"))


@pytest.mark.parametrize("name", models())
def test_commands_refuse_a_model_with_a_flipped_bit(
    name: str, whole: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = harmed(whole, tmp_path / "run", name, 0.7)
    folder = str((output / name).parent)
    commands = {
        "generate": [folder, "--prompt", "the", "--max-new-tokens", "1"],
        "evaluate": [folder, "--data", str(recipe.parent / "text.jsonl"), "--context", "16"],
        "cut": [folder, "--output", str(tmp_path / "out"), "--inner", "8"],
    }
    if "unmerged" in name:
        commands = {
            "merge": [folder, "--output", str(tmp_path / "out")],
            "export": [folder, "--output", str(tmp_path / "out"), "--to", "file"],
        }
    for command, arguments in commands.items():
        capsys.readouterr()
        assert main([command, *arguments]) == 2, command
        line = told(capsys)
        assert Path(name).name in line and "to use" in line, line
    (output / name).parent.joinpath("fallow-stage.json").unlink()  # accepted as it is; that it still loads is luck
    if name.endswith("generation_config.json"):
        assert main([command, *arguments]) in (0, 2)


@pytest.mark.parametrize(
    "name", ["recipe.yaml", "results.json", *(f"third/{file}" for file in ("stage.json", "log.jsonl"))]
)
@pytest.mark.parametrize("with_results", [True, False])
def test_a_report_shows_no_number_that_was_changed(
    with_results: bool, name: str, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = harmed(whole, tmp_path / "run", name, 0.5)
    if not with_results:
        (output / "results.json").unlink()
    capsys.readouterr()
    code = main(["report", str(output), "--json"])
    if code:
        assert code == 2
        assert str(output / name) in told(capsys)
        return
    assert with_results == (name != "results.json")  # it is all that is read, or it was removed
    shown = capsys.readouterr().out
    main(["report", str(whole), "--json"])
    assert shown.replace(str(output), "") == capsys.readouterr().out.replace(str(whole), "")


@pytest.fixture(scope="module")
def broken_off(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed at the end of its fourth stage, with a checkpoint."""
    output = tmp_path_factory.mktemp("runs") / "broken"
    with pytest.MonkeyPatch.context() as patch:
        finish = Loop.finish

        def killed(loop: Loop) -> object:
            if loop.folder.name == "fourth":
                raise Killed
            return finish(loop)

        patch.setattr(Loop, "finish", killed)
        with pytest.raises(Killed):
            main(["run", str(recipe), "--output", str(output), *EVERY])
    return output


EVERY = ("--stages.all.checkpoint.every.steps", "1")


def test_a_flipped_bit_in_an_unfinished_stage_is_named_or_harmless(
    broken_off: Path,
    whole: Path,
    recipe: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    names = sorted(path.relative_to(broken_off).as_posix() for path in (broken_off / "fourth").rglob("*"))
    names = [name for name in names if (broken_off / name).is_file()]
    for part in ("begun.json", "log.jsonl", "paths.json", "supports.safetensors", "state.json", "manifest.json"):
        assert any(name.endswith(part) for name in names), part
    expected = made(whole)
    for number, name in enumerate(names):
        # The second half of the log is of a step after the checkpoint, and is cut back.
        output = harmed(broken_off, tmp_path / str(number), name, 0.2 if name.endswith("log.jsonl") else 0.5)
        capsys.readouterr()
        code = main(["run", str(recipe), "--output", str(output), *EVERY])
        said = capsys.readouterr().err
        if code:
            assert code == 2 and str(output / name) in said and "Traceback" not in said, (name, said)
            continue
        told_and_passed_over = f"checkpoint {(output / name).parent} is damaged" in caplog.text
        assert told_and_passed_over or (name.endswith(HARMLESS) and name != "fourth/begun.json"), name
        found = made(output)
        same = [
            file
            for file in expected
            if file.startswith(("fourth", "fifth")) and file.endswith((".safetensors", ".jsonl"))
        ]
        assert {file: found[file] for file in same} == {file: expected[file] for file in same}, name


def test_a_log_that_changed_after_the_last_step_is_not_taken_over(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Between the last checkpoint and the record of the stage, as when a judgement is killed."""
    output = tmp_path / "run"

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("fallow.run.orchestrate.judge", killed)
        with pytest.raises(Killed):
            main(["run", str(recipe), "--output", str(output), "--only", "first"])
    flip(output / "first" / "log.jsonl", 0.5)
    capsys.readouterr()
    assert main(["run", str(recipe), "--output", str(output), "--only", "first"]) == 2
    assert "first/log.jsonl was changed or is damaged: it does not have the checksum in the checkpoint" in told(capsys)
