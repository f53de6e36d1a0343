import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from fallow.errors import UserError
from fallow.train import BatchSize, Callback, Duration, Mesh, NextToken, NonFiniteError, Optimizer, Schedule, Validation
from tests.train.tiny import Stream, TinyModel, loop, sequences, settings, weights


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_it_learns(tmp_path: Path) -> None:
    run = loop(tmp_path, settings(60))
    result = run.fit()
    losses = [line["loss"] for line in lines(tmp_path) if "loss" in line]
    assert result.stopped == "budget"
    assert result.finished
    assert result.steps == 60 == len(losses)
    assert losses[-1] < 0.5 * losses[0]
    assert run.method.steps == list(range(1, 61))
    assert result.tokens == lines(tmp_path)[-2]["tokens"] > 0


def test_the_loss_does_not_depend_on_how_the_batch_was_cut(tmp_path: Path) -> None:
    ends, logs = [], []
    for micro in (8, 4, 2, 1):
        run = loop(tmp_path / str(micro), settings(6, batch=BatchSize(sequences=8, micro=micro)), dropout=0.0)
        run.fit()
        ends.append(weights(run))
        logs.append([line["loss"] for line in lines(tmp_path / str(micro)) if "loss" in line])
    for end, log in zip(ends[1:], logs[1:], strict=True):
        assert log == pytest.approx(logs[0], rel=1e-6)
        for name, value in end.items():
            torch.testing.assert_close(value, ends[0][name], atol=2e-5, rtol=1e-5)


def test_the_first_loss_is_the_mean_over_valid_tokens(tmp_path: Path) -> None:
    loop(tmp_path, settings(1, schedule=Schedule()), dropout=0.0).fit()
    batch = sequences(list(range(8)))
    logits = TinyModel(dropout=0.0)(input_ids=batch.input_ids).logits
    expected = F.cross_entropy(logits.flatten(0, 1), batch.labels.flatten()).detach()  # a mean; -100 is left out
    assert lines(tmp_path)[0]["loss"] == pytest.approx(float(expected), rel=1e-6)


def test_label_smoothing() -> None:
    batch, model = sequences([0, 1, 2]), TinyModel(dropout=0.0)
    logp = model(input_ids=batch.input_ids).logits.log_softmax(-1)
    valid = batch.labels != -100
    picked = logp.gather(-1, batch.labels.clamp(min=0)[..., None])[..., 0]
    expected = -(0.9 * picked + 0.1 * logp.mean(-1))[valid].sum()
    torch.testing.assert_close(NextToken(0.1)(model, batch), expected)


def test_rates_follow_the_schedule(tmp_path: Path) -> None:
    told = settings(6, optimizer=Optimizer(lr=0.3), schedule=Schedule(kind="linear", warmup=Duration(steps=2), final=0))
    loop(tmp_path, told).fit()
    rates = [line["lr"] for line in lines(tmp_path) if "lr" in line]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.225, 0.15, 0.075])


def test_two_stages_can_share_one_curve(tmp_path: Path) -> None:
    """A full-rank start and what follows it, as if they were one stage."""
    warmup, steps = Duration(steps=2), Duration(steps=4)
    curves = {
        "whole": (8, Schedule(warmup=warmup)),
        "first": (4, Schedule(warmup=warmup, after=steps)),
        "second": (4, Schedule(warmup=warmup, before=steps)),
    }
    rates = {}
    for name, (num_steps, schedule) in curves.items():
        loop(tmp_path / name, settings(num_steps, schedule=schedule)).fit()
        rates[name] = [line["lr"] for line in lines(tmp_path / name) if "lr" in line]
    assert rates["first"] + rates["second"] == rates["whole"]


class Poisoned(NextToken):
    """Spoils the loss of one sequence, or only its gradient."""

    def __init__(self, name: str, how: str) -> None:
        super().__init__()
        self.name, self.how = name, how

    def __call__(self, model: Any, batch: Any) -> torch.Tensor:
        loss = super().__call__(model, batch)
        if self.name not in batch.ids:
            return loss
        if self.how == "loss":
            return loss * math.nan
        weight = next(iter(model.parameters())).flatten()[0]
        return loss + (weight - weight.detach()).sqrt()  # value 0, slope infinite


@pytest.mark.parametrize(("how", "ids"), [("loss", ("s20", "s21", "s22", "s23")), ("gradient", None)])
def test_not_a_number_stops_before_the_update(tmp_path: Path, how: str, ids: tuple[str, ...] | None) -> None:
    run = loop(tmp_path / "bad", settings(6), objective=Poisoned("s20", how))
    with pytest.raises(NonFiniteError) as caught:
        run.fit()
    assert caught.value.step == 3
    assert caught.value.ids == (ids or tuple(f"s{n}" for n in range(16, 24)))
    assert "at step 3" in str(caught.value)
    assert "s20" in str(caught.value)
    first = loop(tmp_path / "first", settings(6))
    first.resume(), first.model.train(), first.step(), first.step()
    assert all(torch.equal(weights(run)[name], value) for name, value in weights(first).items())
    assert run.method.steps == [1, 2]


def test_a_batch_without_a_label_is_refused(tmp_path: Path) -> None:
    class Blank(Stream):
        def next_batches(self, num_micro: int) -> list[Any]:
            batches = super().next_batches(num_micro)
            for batch in batches:
                batch.labels.fill_(-100)
            return batches

    with pytest.raises(UserError, match="no token of the batch at step 1 has a loss"):
        loop(tmp_path, mixture=Blank(8)).fit()


def test_bfloat16_keeps_weights_and_loss_in_fp32(tmp_path: Path) -> None:
    seen = []

    class Types(NextToken):
        def __call__(self, model: Any, batch: Any) -> torch.Tensor:
            loss = super().__call__(model, batch)
            seen.append((model(input_ids=batch.input_ids).logits.dtype, loss.dtype))
            return loss

    run = loop(tmp_path, settings(3, precision="bf16"), objective=Types())
    run.fit()
    assert set(seen) == {(torch.bfloat16, torch.float32)}
    assert {p.dtype for p in run.model.parameters()} == {torch.float32}


def test_best_weights_come_back_and_patience_ends(tmp_path: Path) -> None:
    losses = iter([5.0, 3.0, 4.0, math.nan, 1.0])
    kept: dict[str, torch.Tensor] = {}

    class Keep(Callback):
        def on_validate(self, loop: Any, metrics: dict[str, float]) -> None:
            if loop.validation.best_step == loop.num_steps_done:
                kept.update(weights(loop))

    told = settings(40, validation=Validation(every=Duration(steps=2), keep="best", patience=2))
    run = loop(tmp_path, told, callbacks=(Keep(),), validate=lambda: {"loss": next(losses)})
    result = run.fit()
    assert (result.stopped, result.steps, result.best_step) == ("early", 8, 4)
    assert result.validation == {"loss": 3.0}
    assert all(torch.equal(value, kept[name]) for name, value in weights(run).items())
    assert list((tmp_path / "best").iterdir()) == []
    again = loop(tmp_path, told, seed=9, validate=lambda: {"loss": 0.0})
    assert again.fit() == result
    assert all(torch.equal(value, kept[name]) for name, value in weights(again).items())


def test_best_needs_held_out_data(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="need held-out data"):
        loop(tmp_path, settings(validation=Validation(every=Duration(steps=2), keep="best")), validate=None)


def test_moments_come_in_order(tmp_path: Path) -> None:
    seen: list[str] = []

    class Notes(Callback):
        def __getattribute__(self, name: str) -> Any:
            if name.startswith("on_"):
                seen.append(name)
            return super().__getattribute__(name)

    loop(tmp_path, settings(4), callbacks=(Notes(),)).fit()
    steps = ["on_step"] * 3 + ["on_checkpoint", "on_step", "on_validate"]
    assert seen == ["on_start", *steps, "on_checkpoint", "on_stop"]
    assert len([name for name in vars(Callback) if name.startswith("on_")]) <= 8


def test_validation_neither_trains_nor_moves_the_dropout(tmp_path: Path) -> None:
    often = loop(tmp_path / "often", settings(6, validation=Validation(every=Duration(steps=1))))
    never = loop(tmp_path / "never", settings(6, validation=Validation()), validate=None)
    often.fit(), never.fit()
    assert all(torch.equal(value, weights(never)[name]) for name, value in weights(often).items())


def test_a_stock_model_with_a_tied_head(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=31, n_positions=16, n_embd=8, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
    torch.manual_seed(0)
    model = GPT2LMHeadModel(config)
    run = loop(tmp_path, settings(4))
    from fallow.train import Loop
    from fallow.train.distributed import blocks

    assert len(blocks(model)) == 2
    stock = Loop(model, run.method, Stream(8), settings(4, validation=Validation()), Mesh(), tmp_path / "stock")
    assert math.isfinite(stock.fit().loss)
    assert model.lm_head.weight is model.transformer.wte.weight
    assert model.config.use_cache
