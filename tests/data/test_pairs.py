import pytest
import torch
from transformers import PreTrainedTokenizerFast

from fallow.data.batch import IGNORE, Batch
from fallow.data.pairs import Pair, PairDataset
from fallow.data.preview import preview
from fallow.data.tokenizer import encode_batch
from fallow.errors import UserError

PAIRS = [Pair("alpha beta", "gamma"), Pair("delta", "epsilon zeta"), Pair("alpha beta", "eta theta iota")]
LONG = Pair("alpha beta gamma delta epsilon " * 8, "zeta eta")


def test_the_loss_is_on_the_target_and_its_end(tokenizer: PreTrainedTokenizerFast) -> None:
    data = PairDataset(PAIRS, tokenizer, 64)
    eos = tokenizer.eos_token_id
    for index, pair in enumerate(PAIRS):
        context, target = encode_batch(tokenizer, [pair.context, " " + pair.target])
        inputs, labels = data.sample(index)
        assert inputs.tolist() == [*context, eos, *target]
        assert labels.tolist() == [IGNORE] * len(context) + [*target, eos]
    assert data.report.kept == 3
    assert data.num_tokens == sum(len(data.sample(i)[0]) for i in range(3))
    assert data.num_targets == sum(int((data.sample(i)[1] != IGNORE).sum()) for i in range(3))
    assert data.mean_length * 3 == data.num_tokens


def test_batches_are_padded_on_the_right_without_loss(tokenizer: PreTrainedTokenizerFast) -> None:
    data = PairDataset(PAIRS, tokenizer, 64)
    samples = [data.sample(i) for i in range(3)]
    batch = data.collate(samples, ids=["a", "b", "c"])
    width = max(len(inputs) for inputs, _ in samples)
    assert batch.input_ids.shape == batch.labels.shape == (3, width)
    assert batch.input_ids.dtype == batch.labels.dtype == torch.int64
    for row, (inputs, labels) in enumerate(samples):
        assert batch.input_ids[row, : len(inputs)].tolist() == inputs.tolist()
        assert batch.labels[row, : len(labels)].tolist() == labels.tolist()
        assert set(batch.labels[row, len(labels) :].tolist()) <= {IGNORE}
    assert batch.num_valid == data.num_targets
    assert batch.num_tokens == 3 * width
    moved = batch.to("meta")
    assert isinstance(moved, Batch)
    assert moved.ids == ("a", "b", "c")


def test_groups_hold_each_context_once(tokenizer: PreTrainedTokenizerFast) -> None:
    data = PairDataset(PAIRS, tokenizer, 64)
    assert data.groups() == [("alpha beta", ("gamma", "eta theta iota")), ("delta", ("epsilon zeta",))]
    assert data.prompt("delta") == [*encode_batch(tokenizer, ["delta"])[0], tokenizer.eos_token_id]
    assert data.prompt("alpha beta") == data.sample(0)[0][: len(data.prompt("alpha beta"))].tolist()


def test_a_longer_pair_is_an_error_unless_told_otherwise(tokenizer: PreTrainedTokenizerFast) -> None:
    message = r"1 of 4 pairs of e2e are longer than the context of 24 tokens: number 1 has \d+.*overflow: cut"
    with pytest.raises(UserError, match=message):
        PairDataset([PAIRS[0], LONG, *PAIRS[1:]], tokenizer, 24, name="e2e")


def test_dropped_pairs_are_counted(tokenizer: PreTrainedTokenizerFast) -> None:
    data = PairDataset([*PAIRS, LONG], tokenizer, 24, overflow="drop")
    assert (data.report.read, data.report.kept, data.report.dropped, data.report.cut) == (4, 3, 1, 0)
    assert data.report.longest > 24
    assert LONG not in data.pairs


@pytest.mark.parametrize("side", ["end", "start"])
def test_a_cut_takes_the_context_only(tokenizer: PreTrainedTokenizerFast, side: str) -> None:
    data = PairDataset([*PAIRS, LONG], tokenizer, 24, overflow="cut", cut=side)  # type: ignore[arg-type]
    assert (data.report.kept, data.report.cut, data.report.dropped) == (4, 1, 0)
    context, target = encode_batch(tokenizer, [LONG.context, " " + LONG.target])
    inputs, labels = data.sample(3)
    room = 24 - 1 - len(target)
    kept = context[:room] if side == "end" else context[-room:]
    assert inputs.tolist() == [*kept, tokenizer.eos_token_id, *target]
    assert [label for label in labels.tolist() if label != IGNORE] == [*target, tokenizer.eos_token_id]
    shown = data.groups()[-1][0]
    assert shown == data.pairs[3].context != LONG.context
    assert data.prompt(shown) == [*kept, tokenizer.eos_token_id]


def test_references_of_a_context_that_is_cut_stay_together(tokenizer: PreTrainedTokenizerFast) -> None:
    more = Pair(LONG.context, "theta iota kappa lambda")
    data = PairDataset([LONG, more], tokenizer, 24, overflow="cut")
    assert len(data.groups()) == 1
    assert data.groups()[0][1] == (LONG.target, more.target)


def test_a_target_is_never_cut(tokenizer: PreTrainedTokenizerFast) -> None:
    data = PairDataset([PAIRS[0], Pair("alpha", LONG.context)], tokenizer, 24, overflow="cut")
    assert (data.report.kept, data.report.dropped) == (1, 1)
    with pytest.raises(UserError, match="no pair that fits into 24 tokens"):
        PairDataset([Pair("alpha", LONG.context)], tokenizer, 24, overflow="cut")


@pytest.mark.parametrize("overflow", ["error", "cut", "drop"])
def test_a_pair_that_just_fits(tokenizer: PreTrainedTokenizerFast, overflow: str) -> None:
    length = len(PairDataset([LONG], tokenizer, 500).sample(0)[0])
    data = PairDataset([LONG], tokenizer, length, overflow=overflow)  # type: ignore[arg-type]
    assert (data.report.cut, data.report.dropped, data.report.longest) == (0, 0, length)
    shorter = PairDataset([LONG], tokenizer, length - 1, overflow="cut")
    assert (shorter.report.cut, len(shorter.sample(0)[0])) == (1, length - 1)


def test_the_fingerprint_follows_pairs_and_context(tokenizer: PreTrainedTokenizerFast) -> None:
    prints = {
        PairDataset(pairs, tokenizer, context).fingerprint
        for pairs, context in ((PAIRS, 64), (PAIRS, 65), (PAIRS[::-1], 64), (PAIRS[:2], 64))
    }
    assert len(prints) == 4
    assert PairDataset(list(PAIRS), tokenizer, 64).fingerprint in prints


def test_a_preview_shows_boundaries_and_masks(tokenizer: PreTrainedTokenizerFast) -> None:
    (example,) = preview(PairDataset(PAIRS, tokenizer, 64), tokenizer, [1])
    kinds = [(part.kind, part.loss, part.text) for part in example.stretches]
    assert kinds == [
        ("read", False, "delta"),
        ("end", False, "<|endoftext|>"),
        ("loss", True, " epsilon zeta"),
        ("end", True, "<|endoftext|>"),
    ]
    assert example.num_valid == sum(len(part.ids) for part in example.stretches if part.loss)
