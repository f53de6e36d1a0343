"""Recipes: what fits together, and what is refused before anything is loaded."""

import pytest

from fallow.config import apply_overrides, difference, dump, from_dict, parse, to_dict
from fallow.errors import UserError
from fallow.methods import Sparse
from fallow.run import shipped
from fallow.run.recipe import Recipe, load

SMALL = """
name: small
seed: 4
tokenizer: {vocab_size: 300}
datasets:
  text: {kind: text, sources: [{path: "embedded:stdlib"}], context: 16, valid_share: 0.1}
  pairs: {kind: pairs, format: jsonl, train: a.jsonl, valid: b.jsonl, context: 16}
stages:
  - name: pretrain
    model: {config: {model_type: gpt2, n_positions: 16}}
    method: {name: sparse, sparsity: 0.75}
    dataset: text
    budget: {steps: 10}
    batch: {sequences: 8, micro: 4}
    optimizer: {lr: 1e-3}
  - name: tune
    label: tuned
    seed: 9
    model: {stage: pretrain}
    method: {name: dense}
    dataset: pairs
    budget: {steps: 10}
    batch: {sequences: 8, micro: 4}
    optimizer: {lr: 1e-3}
"""


def small(**changes: object) -> Recipe:
    keys = ((key.replace("__", "."), value) for key, value in changes.items())
    return from_dict(Recipe, apply_overrides(parse(SMALL), keys))


def test_what_is_left_out_is_filled_in() -> None:
    recipe = small()
    assert [stage.seed for stage in recipe.stages] == [4, 9]
    assert [stage.label for stage in recipe.stages] == ["pretrain", "tuned"]
    assert recipe.output == "runs/small"
    assert recipe.stages[0].method == Sparse(sparsity=0.75)
    assert from_dict(Recipe, parse(dump(recipe))) == recipe


REFUSED = [
    ({"stages__1__name": "pretrain"}, "stages.1.name (line 18) is pretrain, but stages.0 has that name already."),
    ({"stages__0__dataset": "txt"}, 'stages.0.dataset: unknown data set "txt". Did you mean "text"?'),
    ({"stages__1__model__stage": "pretran"}, "no earlier stage has that name. Did you mean pretrain?"),
    ({"stages__1__model__stage": "tune"}, "a stage cannot begin with its own result."),
    ({"stages__0__model": {"stage": "tune"}}, "that stage comes later. Put it before this one."),
    ({"stages__0__model": {"stage": "other"}}, "no stage comes before this one. Give config or path instead."),
    ({"stages__1__model__path": "folder"}, "stages.1.model.path (line 20) and stage are given together"),
    ({"stages__1__model": {}}, "Write one of them, such as stage: pretrain."),
    ({"stages__0__model": {"config": {"n_layer": 2}}}, "stages.0.model.config.model_type is missing."),
    ({"tokenizer": {}}, "tokenizer"),
    ({"stages__0__name": "a/b"}, 'name is "a/b"'),
    ({"stages__0__name": "3"}, "Did you mean 3-1?"),
    ({"stages__0__name": "all"}, "neither a number nor all, data or tokenizer"),
    ({"stages__0__name": "data"}, "Did you mean data-1?"),
    (
        {"datasets": {"../text": {"kind": "text", "sources": [{"path": "a.txt"}], "context": 8}}},
        'datasets holds "../text"',
    ),
    (
        {"stages__0__evaluate": {"decoding": {"num_beams": 2}}},
        "stages.0.evaluate.decoding has no effect on text, which is text;",
    ),
    ({"stages__0__evaluate": {"profile": "e2e"}}, "stages.0.evaluate.profile has no effect on text"),
    ({"stages__1__evaluate": {"profile": "e2"}}, "stages.1.evaluate.profile"),
    ({"stages__1__evaluate": {"perplexity": {"stride": 4}}}, "stages.1.evaluate.perplexity has no effect on pairs"),
    (
        {"stages__0__evaluate": {"perplexity": {"stride": 17}}},
        "stages.0.evaluate.perplexity.stride is 17, but a window has 16 tokens",
    ),
    (
        {"datasets__text__valid_share": 0, "stages__0__evaluate": {"perplexity": {"stride": 4}}},
        "stages.0.evaluate.perplexity has no effect: nothing of text is held out",
    ),
    ({"stages__0__evaluate": {"decoder": "lora"}}, "stages.0.evaluate.decoder"),
    ({"stages__1__evaluate": {"decoding": {"decoder": "lor"}}}, "Did you mean lora?"),
    ({"stages__1__grid": {"evaluate.decoding.num_beams": [1, 2]}}, "grid: unknown key evaluate.decoding.num_beams"),
    (
        {"datasets__text__valid_share": 0, "stages__0__validation": {"every": {"steps": 5}}},
        "nothing of text is held out",
    ),
    ({"datasets__text__context": 32}, "the model of stages.0 (pretrain) has 16 positions. Write at most 16"),
    ({"datasets__pairs__context": 32}, "the model of stages.1 (tune) has 16 positions"),
    ({"stages__0__budget": {}}, "stages.0.budget"),
    ({"stages__0__schedule": {"warmup": {"steps": 10}}}, "stages.0.schedule.warmup"),
    ({"stages__0__label_smoothing": 1.0}, "stages.0.label_smoothing"),
    ({"stages__0__method__sparsity": 75}, "stages.0.method.sparsity is 75, but it must be at least 0 and below 1"),
    ({"stages": []}, "stages is empty"),
    ({"datasets": {}}, "datasets is empty"),
    ({"seed": -2}, "seed is -2"),
    ({"stages__0__grid": {"optimizer.rate": [1, 2]}}, "unknown key optimizer.rate. Did you mean optimizer."),
    ({"stages__0__grid": {"model.stage": ["a", "b"]}}, "stages.0.grid: unknown key model.stage."),
    ({"stages__0__grid": {"optimizer.lr": [1e-3]}}, "stages.0.grid.optimizer.lr holds 1 values"),
    ({"stages__0__grid": {"optimizer.lr": [1e-3, -1]}}, "grid.optimizer.lr is -1.0, but it must be above 0"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_refuses(changes, message) -> None:
    with pytest.raises(UserError) as error:
        small(**changes)
    assert message.replace(" (line 18)", "").replace(" (line 20)", "") in str(error.value).replace(" (line 20)", "")


def test_grid() -> None:
    grid = {"optimizer.lr": [1e-3, 1e-4], "batch.sequences": [8, 16]}
    trials = list(small(stages__0__grid=grid).stages[0].trials())
    assert [(t.optimizer.lr, t.batch.sequences) for _, t in trials] == [(1e-3, 8), (1e-3, 16), (1e-4, 8), (1e-4, 16)]
    assert trials[0][0] == {"optimizer.lr": 1e-3, "batch.sequences": 8}
    assert all(trial.grid == {} and trial.seed == 4 for _, trial in trials)
    assert list(small().stages[0].trials()) == []


def test_root(tmp_path) -> None:
    recipe = small(root=str(tmp_path))
    assert recipe.dataset("pairs").train == str(tmp_path / "a.jsonl")
    assert recipe.dataset("pairs").test == ""
    assert recipe.dataset("text").sources[0].path == "embedded:stdlib"
    with pytest.raises(UserError, match=r"datasets\.pairs\.train is .*a\.jsonl, which does not exist\. Write --root"):
        recipe.check_files()
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).touch()
    recipe.check_files()


def test_identity() -> None:
    first = small().identity()
    same = small(output="elsewhere", root="data", description="x", stages__0__checkpoint={"every": {"steps": 5}})
    assert same.identity() == first
    other = small(stages__0__optimizer__lr=2e-3).identity()
    assert difference(first, other) == {"stages.0.optimizer.lr": (0.001, 0.002)}


def test_shipped_and_files(tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("x-shared: &model {config: {model_type: gpt2}}\n" + SMALL)
    assert load(path).name == "small"
    assert load(str(path), [("seed", 5)]).stages[0].seed == 5
    with pytest.raises(UserError, match="there is no recipe spdf-dem"):
        load("spdf-dem")


@pytest.mark.parametrize(
    ("name", "lr", "sequences", "tokens", "width"),
    [("spdf-gpt2-small", 6e-4, 256, 2.5e9, 768), ("spdf-gpt3-xl", 2e-4, 512, 26e9, 2048)],
)
def test_the_papers_settings(name, lr, sequences, tokens, width) -> None:
    """Thangarasa et al., 2023, section 3 and supplement."""
    recipe = load(name)
    arms = recipe.stages[:3]
    assert [getattr(arm.method, "sparsity", 0.0) for arm in arms] == [0.0, 0.5, 0.75]
    for arm in arms:
        assert (arm.optimizer.lr, arm.batch.sequences, arm.budget.tokens) == (lr, sequences, tokens)
        assert arm.model.config["n_embd"] == width
        assert arm.optimizer.betas == (0.9, 0.999)
        assert arm.schedule.warmup.tokens == 375_000_000
        assert recipe.dataset(arm.dataset).context == 2048
    tasks = {
        task: [s for s in recipe.stages[3:] if s.dataset == task] for task in ("e2e", "webnlg", "dart", "curation")
    }
    for task, stages in tasks.items():
        assert len(stages) == 5  # three densely, the two sparse ones also sparsely
        assert len(list(stages[0].trials())) == (6 if task == "curation" else 12)
    assert {s.evaluate.decoding.length_penalty for s in tasks["e2e"]} == {0.9}
    assert {s.evaluate.decoding.length_penalty for s in tasks["dart"]} == {0.8}


def test_sparse_tuning_has_the_support_of_pre_training() -> None:
    """Supports come from seed, layer and density; all must agree, or zeros would wake up."""
    for name in shipped.names():
        recipe = load(name)
        for stage in recipe.stages:
            if isinstance(stage.method, Sparse) and stage.model.stage:
                source = recipe.stage(stage.model.stage)
                assert stage.seed == source.seed
                keys = ("sparsity", "support", "distribution")
                assert [getattr(stage.method, k) for k in keys] == [getattr(source.method, k) for k in keys]


def test_to_dict_is_plain() -> None:
    assert parse(dump(small())) == to_dict(small())
