"""Strided perplexity, bits per byte and the N + 1 figure on a real text, against one position at a time."""

import math
from pathlib import Path

import pytest
import torch
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

from fallow.data.documents import Document
from fallow.data.settings import TokenizerSettings
from fallow.data.shards import Shards, write_shards
from fallow.data.tokenizer import train_tokenizer
from fallow.data.tokens import TokenDataset
from fallow.data.windows import WindowDataset
from fallow.errors import UserError
from fallow.evaluate.evaluation import Evaluation
from fallow.evaluate.n_plus_one import n_plus_one
from fallow.evaluate.perplexity import perplexity, pooled
from fallow.evaluate.perplexity_settings import PerplexitySettings

TEXTS = ["the cat s\u00e4t on the mat", "a dog ran \u2014 over there", "to the cat and the mat it ran"] * 2


def shards_of(folder: Path, tokenizer: PreTrainedTokenizerFast, texts: list[str] = TEXTS) -> Shards:
    documents = [Document(str(i), text) for i, text in enumerate(texts)]
    write_shards(documents, tokenizer, folder, name="text", source="s")
    return Shards(folder)


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> list[PreTrainedTokenizerFast]:
    """One with a token for almost each byte, one with longer ones."""
    folder = tmp_path_factory.mktemp("tokenizers")
    settings = [TokenizerSettings(vocab_size=size) for size in (262, 290)]
    return [train_tokenizer(s, TEXTS * 9, folder / str(s.vocab_size)) for s in settings]


@pytest.fixture(scope="module")
def shards(tokenizers: list[PreTrainedTokenizerFast], tmp_path_factory: pytest.TempPathFactory) -> Shards:
    return shards_of(tmp_path_factory.mktemp("shards"), tokenizers[1])


@pytest.fixture(scope="module")
def model() -> GPT2LMHeadModel:
    from transformers import GPT2Config

    torch.manual_seed(0)
    config = GPT2Config(n_layer=2, n_embd=32, n_head=2, n_positions=24, vocab_size=300, initializer_range=0.4)
    return GPT2LMHeadModel(config).eval()


def one_by_one(model: GPT2LMHeadModel, shards: Shards, context: int, stride: int) -> list[float]:
    """-log p of each token, each from a forward pass of its own over exactly what it may see, in float64."""
    tokens = [shards.index.eos, *shards.read(0, len(shards)).tolist()]
    double, found = model.double(), []
    for place in range(1, len(tokens)):
        windows = max(0, math.ceil((place - context) / stride))  # the first window that reaches this token
        seen = torch.tensor([tokens[windows * stride : place]])
        with torch.no_grad():
            found.append(-float(torch.log_softmax(double(seen).logits[0, -1], 0)[tokens[place]]))
    model.float()
    return found


@pytest.mark.parametrize(("context", "stride"), [(24, 1), (24, 8), (24, 24), (16, 5), (9, 9)])
def test_equals_one_position_at_a_time(model: GPT2LMHeadModel, shards: Shards, context: int, stride: int) -> None:
    expected = one_by_one(model, shards, context, stride)
    found = perplexity(model, WindowDataset(shards, context, stride), batch_size=3)
    assert found["num_tokens"] == len(expected) == len(shards)
    assert found["loss"] == pytest.approx(sum(expected) / len(expected), abs=3e-6)
    size = sum(len(text.encode()) for text in TEXTS)
    assert found["num_bytes"] == size
    assert found["bits_per_byte"] == pytest.approx(sum(expected) / math.log(2) / size, rel=1e-6)


def test_bits_per_byte_do_not_depend_on_the_tokenizer(
    tokenizers: list[PreTrainedTokenizerFast], tmp_path: Path
) -> None:
    """A model without knowledge says 1 / v for each token: v ** tokens texts, whatever the tokens are called."""

    class Uniform(torch.nn.Module):
        def __init__(self, vocabulary: int) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(vocabulary))

        def forward(self, input_ids: torch.Tensor, use_cache: bool) -> object:
            return type("Output", (), {"logits": self.weight.expand(*input_ids.shape, -1)})

    found = []
    for number, tokenizer in enumerate(tokenizers):
        part = shards_of(tmp_path / str(number), tokenizer)
        result = perplexity(Uniform(len(tokenizer)), WindowDataset(part, 16, 8))
        assert result["bits_per_byte"] == pytest.approx(
            len(part) * math.log2(len(tokenizer)) / sum(len(text.encode()) for text in TEXTS)
        )
        found.append(result)
    assert found[0]["num_bytes"] == found[1]["num_bytes"]
    assert found[0]["num_tokens"] > 1.2 * found[1]["num_tokens"]
    assert found[0]["loss"] < found[1]["loss"]  # fewer tokens to choose from, and yet the model is worse:
    assert found[0]["bits_per_byte"] > found[1]["bits_per_byte"]


def test_sequences_side_by_side_share_the_bytes_out(model: GPT2LMHeadModel, shards: Shards) -> None:
    data = TokenDataset(shards, 16)
    found = perplexity(model, data)
    bits = found["loss"] / math.log(2) * len(shards) / shards.index.num_text_bytes
    assert found["bits_per_byte"] == pytest.approx(bits)
    assert found["num_tokens"] < len(shards)


def test_parts_pool_by_tokens_and_bytes(model: GPT2LMHeadModel, shards: Shards, tmp_path: Path) -> None:
    whole = perplexity(model, WindowDataset(shards, 24, 8))
    other = {"loss": 2.0, "num_tokens": 30, "num_bytes": 60}
    both = pooled([whole, other])
    total = whole["loss"] * whole["num_tokens"] + 60.0
    assert both["loss"] == pytest.approx(total / (whole["num_tokens"] + 30))
    assert both["bits_per_byte"] == pytest.approx(total / math.log(2) / (whole["num_bytes"] + 60))
    assert "bits_per_byte" not in pooled([whole, {"loss": 2.0, "num_tokens": 30}])  # of one part it is not known
    assert pooled([whole])["bits_per_byte"] == pytest.approx(whole["bits_per_byte"])


@pytest.mark.parametrize("sequences", [1, 2, 3, 100])
def test_n_plus_one_is_what_the_released_loop_computes(model: GPT2LMHeadModel, shards: Shards, sequences: int) -> None:
    """Its loop by hand: a counter that begins at 1, the mean of each batch as transformers computes it."""
    data = TokenDataset(shards, 12)
    total, counter = torch.tensor(0.0), 1
    for start in range(0, len(data), sequences):
        batch = data.collate([data.sample(i) for i in range(start, min(start + sequences, len(data)))])
        counter += 1
        with torch.no_grad():
            logits = model(batch.input_ids).logits
        total += torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.labels.flatten())
    found = n_plus_one(model, data, sequences=sequences, batch_size=2)
    assert found["num_batches"] == counter - 1
    assert found["loss"] == pytest.approx(float(total / counter), rel=1e-5)
    assert found["loss"] < perplexity(model, data)["loss"]
    assert found["perplexity"] == pytest.approx(math.exp(found["loss"]))


def test_nothing_to_look_at(model: GPT2LMHeadModel, shards: Shards) -> None:
    class Unlabelled(TokenDataset):
        def sample(self, index: int):  # type: ignore[no-untyped-def]
            inputs, labels = super().sample(index)
            return inputs, labels * 0 - 100

    with pytest.raises(UserError, match="batch 1 has none"):
        n_plus_one(model, Unlabelled(shards, 12), sequences=2)


def test_progress_counts_the_batches(model: GPT2LMHeadModel, shards: Shards) -> None:
    seen: list[tuple[int, int]] = []
    data = TokenDataset(shards, 12)
    perplexity(model, data, batch_size=4, progress=lambda *numbers: seen.append(numbers))
    total = -(-len(data) // 4)
    assert seen == [(n, total) for n in range(1, total + 1)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stride": -1}, "stride is -1, but it must be at least 0"),
        ({"n_plus_one": -2}, "n_plus_one is -2, but it must be at least 0"),
    ],
)
def test_settings_out_of_range(settings: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PerplexitySettings(**settings)
    with pytest.raises(UserError, match="a window has 32 tokens and none may be left out. Write 1 to 32; 16 is usual"):
        PerplexitySettings(stride=33).check_context(32)
    with pytest.raises(UserError, match='unknown profile "e2"'):
        Evaluation(profile="e2")  # type: ignore[arg-type]
