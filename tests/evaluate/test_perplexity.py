import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

from fallow.errors import UserError
from fallow.evaluate.perplexity import exponential, perplexity


@dataclass
class Batch:
    input_ids: Tensor
    labels: Tensor


class Ragged:
    """Sequences of different lengths, right-padded; part of the labels masked."""

    def __init__(self, lengths: list[int], vocab: int = 97, masked: float = 0.3) -> None:
        draw = np.random.default_rng(0)
        self.rows = []
        for length in lengths:
            tokens = draw.integers(1, vocab, length + 1)
            labels = np.where(draw.random(length) < masked, -100, tokens[1:])
            self.rows.append((tokens[:-1], labels))

    def __len__(self) -> int:
        return len(self.rows)

    def sample(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.rows[index]

    def collate(self, samples: list[tuple[np.ndarray, np.ndarray]]) -> Batch:
        longest = max(len(inputs) for inputs, _ in samples)
        ids = torch.zeros(len(samples), longest, dtype=torch.long)
        labels = torch.full_like(ids, -100)
        for row, (a, b) in enumerate(samples):
            ids[row, : len(a)], labels[row, : len(b)] = torch.from_numpy(a), torch.from_numpy(b)
        return Batch(ids, labels)


class Share:
    """One of several processes; `sum` adds what the others reported."""

    def __init__(self, rank: int, world: int) -> None:
        self.rank, self.world, self.sent = rank, world, []

    def sum(self, value: float) -> float:
        self.sent.append(float(value))
        return max(value, 1)


LENGTHS = [5, 17, 1, 40, 33, 12, 8]


def oracle(model: GPT2LMHeadModel, data: Ragged) -> tuple[float, int]:
    """torch's cross entropy in float64, one unpadded sequence at a time."""
    double, total, count = model.double(), 0.0, 0
    with torch.no_grad():
        for inputs, labels in data.rows:
            logits = double(torch.from_numpy(inputs)[None]).logits[0]
            target = torch.from_numpy(labels)
            total += torch.nn.functional.cross_entropy(logits, target, ignore_index=-100, reduction="sum").item()
            count += int((target != -100).sum())
    model.float()
    return total / count, count


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_equals_float64_cross_entropy_whatever_the_batches(gpt2: GPT2LMHeadModel, batch_size: int) -> None:
    data = Ragged(LENGTHS)
    loss, count = oracle(gpt2, data)
    result = perplexity(gpt2, data, batch_size=batch_size)
    assert result["num_tokens"] == count
    assert result["num_sequences"] == len(LENGTHS)
    assert result["loss"] == pytest.approx(loss, abs=2e-6)
    assert result["perplexity"] == pytest.approx(math.exp(loss), rel=1e-5)


def test_log_softmax_is_taken_in_fp32_for_a_bf16_model(gpt2: GPT2LMHeadModel) -> None:
    class Rounded(torch.nn.Module):
        """A model whose logits are bf16; the loss must be exact for those logits."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, input_ids: Tensor, use_cache: bool) -> Batch:
            out = gpt2(input_ids)
            out.logits = out.logits.bfloat16()
            return out

    data = Ragged([30], masked=0.0)
    inputs, labels = data.rows[0]
    with torch.no_grad():
        logits = gpt2(torch.from_numpy(inputs)[None]).logits[0].bfloat16().double()
    expected = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels)).item()
    assert perplexity(Rounded(), data)["loss"] == pytest.approx(expected, abs=1e-6)


def test_processes_share_the_batches_and_run_equally_often(gpt2: GPT2LMHeadModel) -> None:
    data, world = Ragged(LENGTHS), 3
    whole = perplexity(gpt2, data, batch_size=2)
    sent, forwards = [], []
    for rank in range(world):
        calls: list[int] = []
        hook = gpt2.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        share = Share(rank, world)
        perplexity(gpt2, data, batch_size=2, mesh=share)
        hook.remove()
        sent.append(share.sent)
        forwards.append(len(calls))
    loss, tokens, sequences = (sum(column) for column in zip(*sent, strict=True))
    assert forwards == [2, 2, 2]
    assert (tokens, sequences) == (whole["num_tokens"], whole["num_sequences"])
    assert loss / tokens == pytest.approx(whole["loss"], rel=1e-12)


def test_max_batches_takes_a_spread_part(gpt2: GPT2LMHeadModel) -> None:
    data = Ragged([6] * 10, masked=0.0)
    assert perplexity(gpt2, data, batch_size=2, max_batches=2)["num_tokens"] == 24


def test_modes_and_gradients_are_as_before(gpt2: GPT2LMHeadModel) -> None:
    gpt2.train()
    gpt2.transformer.h[0].eval()
    modes = [module.training for module in gpt2.modules()]
    perplexity(gpt2, Ragged([4]))
    assert [module.training for module in gpt2.modules()] == modes
    assert all(p.grad is None for p in gpt2.parameters())
    assert torch.is_grad_enabled()
    gpt2.eval()


def test_nothing_to_score_is_an_error(gpt2: GPT2LMHeadModel) -> None:
    with pytest.raises(UserError, match="the data set is empty"):
        perplexity(gpt2, Ragged([]))
    with pytest.raises(UserError, match="none of the 2 sequences"):
        perplexity(gpt2, Ragged([4, 4], masked=1.0))


def test_a_hopeless_loss_gives_an_infinite_perplexity() -> None:
    assert exponential(1e4) == math.inf
