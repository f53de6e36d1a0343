"""A whole recipe from the command line: what it leaves, how it resumes, what it refuses."""

import json
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

from tests.run.tiny import results, run, start, weights, write_recipe


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe"))


@pytest.fixture(scope="module")
def calm(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run."""
    output = tmp_path_factory.mktemp("calm") / "run"
    done = run(recipe, output)
    assert done.returncode == 0, done.stderr
    assert "report.html" in done.stdout and "then dense" in done.stdout
    return output


def test_what_a_run_leaves(calm: Path) -> None:
    for name in ("recipe.yaml", "results.json", "report.html", "tokenizer/tokenizer.json"):
        assert (calm / name).stat().st_size > 0, name
    for stage in ("pretrain", "tune"):
        for name in ("model/config.json", "model/README.md", "model/tokenizer.json", "log.jsonl", "recipe.yaml"):
            assert (calm / stage / name).stat().st_size > 0, f"{stage}/{name}"
        assert not (calm / stage / "checkpoints").exists()
    [row] = results(calm)["rows"]
    assert row["arm"] == "then dense" and row["stages"] == ["pretrain", "tune"]
    assert row["sparsity"] == 0.75 and 1 < row["reduction"] < row["ceiling"]
    assert 0 <= row["bleu"] <= 100 and row["perplexity"] > 1
    page = (calm / "report.html").read_text()
    assert "<script src" not in page and "http://" not in page.replace("http://www.w3.org", "")


def test_the_models_load_anywhere_and_the_first_is_sparse(calm: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(calm / "tune" / "model")
    for stage, sparse in (("pretrain", True), ("tune", False)):
        model = AutoModelForCausalLM.from_pretrained(calm / stage / "model")
        assert model.config.vocab_size >= len(tokenizer)
        zeros = [float((block.mlp.c_fc.weight == 0).float().mean()) for block in model.transformer.h]
        assert all((zero == 0.75) if sparse else (zero < 0.01) for zero in zeros), (stage, zeros)
        assert torch.isfinite(model(torch.tensor([[1, 2, 3]])).logits).all()


def test_the_measured_loss_is_that_of_the_saved_model(calm: Path) -> None:
    """The validation loss of the log, once more by hand from the folder: shards, tokenizer and weights as saved."""
    from transformers import AutoModelForCausalLM

    from fallow.data.shards import Shards
    from fallow.data.tokens import TokenDataset

    [folder] = [path for path in (calm / "data" / "text").iterdir() if path.name.endswith("valid")]
    data = TokenDataset(Shards(folder), 16)
    model = AutoModelForCausalLM.from_pretrained(calm / "pretrain" / "model").eval()
    total = count = 0.0
    with torch.no_grad():
        for index in range(len(data)):
            inputs, labels = (torch.from_numpy(part.astype("int64")) for part in data.sample(index))
            logits = model(inputs[None]).logits[0].double()
            total += float(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"))
            count += len(labels)
    stage = json.loads((calm / "pretrain" / "stage.json").read_text())
    assert stage["scores"]["loss"] == pytest.approx(total / count, abs=1e-5)
    assert stage["training"]["validation"]["loss"] == pytest.approx(total / count, abs=1e-5)


def test_a_finished_run_is_not_run_again(calm: Path, recipe: Path) -> None:
    before = weights(calm, "tune")
    again = run(recipe, calm, "--json")
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("finished before") == 2
    assert json.loads(again.stdout)["rows"] == results(calm)["rows"]
    assert weights(calm, "tune") == before


def test_kill_9_at_random_moments_changes_nothing(calm: Path, recipe: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    draw = random.Random()
    killed = 0
    moments = {"pretrain": sorted(draw.sample(range(2, 24), 3)), "tune": sorted(draw.sample(range(2, 16), 3))}
    for stage, steps in moments.items():
        for step in steps:
            process = start(recipe, output)
            log = output / stage / "log.jsonl"
            deadline = time.monotonic() + 120
            while process.poll() is None and time.monotonic() < deadline:
                if log.exists() and log.read_bytes().count(b'"lr"') >= step:
                    process.send_signal(signal.SIGKILL)
                    killed += 1
                    break
                time.sleep(0.002)
            process.communicate()
    assert killed >= 4, moments  # a stage may end before the last moment is noticed
    done = run(recipe, output)
    assert done.returncode == 0, (moments, done.stderr)
    for stage in ("pretrain", "tune"):
        assert weights(output, stage) == weights(calm, stage), (stage, moments)
        assert (output / stage / "log.jsonl").read_bytes() == (calm / stage / "log.jsonl").read_bytes(), (
            stage,
            moments,
        )
    assert results(output)["rows"][0]["bleu"] == results(calm)["rows"][0]["bleu"]


def test_sigterm_saves_and_leaves(recipe: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    process = start(
        recipe, output, "--stages.pretrain.budget.steps", "4000", "--stages.pretrain.checkpoint.every.steps", "0"
    )
    log = output / "pretrain" / "log.jsonl"
    while process.poll() is None and not (log.exists() and log.read_bytes().count(b"\n") > 3):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "the same command continues" in err and "Traceback" not in err
    assert list((output / "pretrain" / "checkpoints").glob("step-*"))


def test_another_recipe_is_refused_with_the_difference(calm: Path, recipe: Path, tmp_path: Path) -> None:
    refused = run(recipe, calm, "--stages.0.optimizer.lr", "0.002")
    assert refused.returncode == 2
    assert "stages.0.optimizer.lr is 0.003 there and 0.002 here" in refused.stderr
    assert refused.stderr.count("\n") == 1
    (tmp_path / "mine.txt").write_text("precious")
    foreign = run(recipe, tmp_path, "--restart")
    assert foreign.returncode == 2 and "holds other files" in foreign.stderr
    assert (tmp_path / "mine.txt").read_text() == "precious"


def test_restart_begins_again(calm: Path, recipe: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    shutil.copytree(calm, output)
    done = run(
        recipe, output, "--restart", "--stages.all.budget.steps", "2", "--stages.pretrain.schedule.warmup.steps", "0"
    )
    assert done.returncode == 0, done.stderr
    assert weights(output, "pretrain") != weights(calm, "pretrain")


def test_dry_run_leaves_nothing(recipe: Path, tmp_path: Path) -> None:
    done = run(recipe, tmp_path / "run", "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    assert "everything fits together" in done.stderr
    assert len(json.loads(done.stdout)["rows"]) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ("--stages.0.method.sparsity", "75"),
            "sparsity is 75, but it must be at least 0 and below 1. Did you mean 0.75?",
        ),
        (("--stages.0.targets", "q_proj"), 'targets "q_proj" match nothing in GPT2LMHeadModel'),
        (("--stages.1.model.stage", "pretrian"), "Did you mean pretrain?"),
        (("--datasets.pairs.context", "8", "--datasets.pairs.overflow", "error"), "context"),
        (("--stages.0.model.config.vocab_size", "280"), "wrong tokenizer"),
        (("--stages.0.optimiser.lr", "1"), "Did you mean"),
    ],
)
def test_mistakes_end_in_one_line(flags: tuple[str, ...], message: str, recipe: Path, tmp_path: Path) -> None:
    refused = run(recipe, tmp_path / "run", *flags)
    assert refused.returncode == 2, refused.stderr
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr


def test_sparse_tuning_on_another_support_is_refused(calm: Path, recipe: Path, tmp_path: Path) -> None:
    flags = ("--stages.tune.method.name", "sparse", "--stages.tune.method.sparsity", "0.75")
    same = run(recipe, tmp_path / "same", *flags)
    assert same.returncode == 0, same.stderr
    model = results(tmp_path / "same")["stages"]["tune"]
    assert (
        model["training"]["counts"]["nonzero"] == results(calm)["stages"]["pretrain"]["training"]["counts"]["nonzero"]
    )
    other = run(recipe, tmp_path / "other", *flags, "--stages.tune.seed", "8")
    assert other.returncode == 2
    assert "would throw away" in other.stderr


def test_only_some_stages(calm: Path, recipe: Path, tmp_path: Path) -> None:
    first = run(recipe, tmp_path / "run", "--only", "pretrain")
    assert first.returncode == 0, first.stderr
    assert [row["arm"] for row in results(tmp_path / "run")["rows"]] == ["sparse"]
    rest = run(recipe, tmp_path / "run", "--only", "tune")
    assert rest.returncode == 0, rest.stderr
    assert "pretrain: finished before" in rest.stderr
    assert weights(tmp_path / "run", "tune") == weights(calm, "tune")
    unknown = run(recipe, tmp_path / "run", "--only", "tuna")
    assert unknown.returncode == 2
    assert 'Did you mean "tune"?' in unknown.stderr


def test_a_grid_keeps_the_best_trial(recipe: Path, tmp_path: Path) -> None:
    text = recipe.read_text().replace(
        "    method: {name: dense}\n", "    method: {name: dense}\n    grid: {optimizer.lr: [1e-9, 1e-2]}\n"
    )
    (tmp_path / "grid.yaml").write_text(text)
    done = run(tmp_path / "grid.yaml", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    stage = json.loads((tmp_path / "run" / "tune" / "stage.json").read_text())
    tried = {trial["settings"]["optimizer.lr"]: trial["loss"] for trial in stage["grid"]["tried"]}
    assert stage["grid"]["chosen"] == 1 and tried[1e-2] < tried[1e-9]
    assert stage["training"]["validation"]["loss"] == pytest.approx(tried[1e-2])
    assert weights(tmp_path / "run", "tune") == weights(tmp_path / "run", "tune/trials/01")
    left = tmp_path / "run/tune/trials/00/checkpoints/step-000003"  # as if killed just after this trial's record
    left.mkdir(parents=True)
    (tmp_path / "run/tune/stage.json").unlink()
    assert run(tmp_path / "grid.yaml", tmp_path / "run").returncode == 0
    assert not left.parent.exists()


def test_two_processes_run_a_recipe_as_one_does(recipe: Path, tmp_path: Path) -> None:
    flags = ("--stages.pretrain.model.config.resid_pdrop", "0", "--stages.pretrain.model.config.embd_pdrop", "0")
    two = start(
        recipe,
        tmp_path / "two",
        *flags,
        launcher=("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
    )
    out, err = two.communicate(timeout=300)
    assert two.returncode == 0, err[-3000:]
    assert out.count("then dense") == 1
    one = run(recipe, tmp_path / "one", *flags)
    assert one.returncode == 0, one.stderr
    for stage in ("pretrain", "tune"):
        logs = [
            [json.loads(line) for line in (tmp_path / n / stage / "log.jsonl").read_text().splitlines()]
            for n in ("one", "two")
        ]
        for a, b in zip(*logs, strict=True):
            assert a["tokens"] == b["tokens"]
            assert a.get("loss", 0.0) == pytest.approx(b.get("loss", 0.0), abs=1e-4)


def test_paths_of_the_data_begin_in_root(recipe: Path, tmp_path: Path) -> None:
    text = recipe.read_text().replace(str(recipe.parent) + "/", "")
    (tmp_path / "rooted.yaml").write_text(text)
    missing = run(tmp_path / "rooted.yaml", tmp_path / "run", "--dry-run")
    assert missing.returncode == 2
    assert "Write --root FOLDER" in missing.stderr
    done = run(tmp_path / "rooted.yaml", tmp_path / "run", "--root", str(recipe.parent), "--dry-run")
    assert done.returncode == 0, done.stderr
