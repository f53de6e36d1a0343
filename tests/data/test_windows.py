import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from fallow.data.batch import IGNORE
from fallow.data.documents import Document
from fallow.data.shards import Shards, write_shards
from fallow.data.tokens import TokenDataset
from fallow.data.windows import WindowDataset
from fallow.errors import UserError
from tests.data.helpers import story

TEXTS = [*(story(i, 20 + i) for i in range(6)), "signs of two bytes: \u00e9\u00fc, of four: \U0001f33e"]


@pytest.fixture(scope="module")
def shards(tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Shards:
    folder = tmp_path_factory.mktemp("shards")
    documents = [Document(str(i), text) for i, text in enumerate(TEXTS)]
    write_shards(documents, tokenizer, folder, name="stories", source="s", shard_tokens=150)
    return Shards(folder)


@pytest.mark.parametrize(("context", "stride"), [(64, 64), (64, 16), (64, 63), (64, 1), (7, 3), (100_000, 5), (1, 1)])
def test_every_token_is_a_label_once_and_sees_what_came_before(shards: Shards, context: int, stride: int) -> None:
    tokens = shards.read(0, len(shards)).tolist()
    before = [shards.index.eos, *tokens]
    data = WindowDataset(shards, context, stride)
    seen = []
    for index in range(len(data)):
        inputs, labels = data.sample(index)
        start = index * stride
        assert inputs.tolist() == before[start : start + len(inputs)]
        assert len(inputs) == len(labels) <= context
        kept = np.flatnonzero(labels != IGNORE)
        seen += (start + kept).tolist()
        assert labels[kept].tolist() == tokens[start : start + len(labels)][kept[0] :]
        if index:
            assert kept[0] >= context - stride  # that many tokens, and the input itself, come before
    assert seen == list(range(len(tokens)))
    assert data.mean_length == pytest.approx(np.mean([len(data.sample(i)[0]) for i in range(len(data))]))


def test_bytes_are_those_of_the_text(shards: Shards) -> None:
    size = sum(len(text.encode()) for text in TEXTS)
    assert len(shards.index.shards) > 1
    assert shards.index.num_text_bytes == size
    assert WindowDataset(shards, 8, 4).bytes_per_token == size / len(shards)
    assert TokenDataset(shards, 8).bytes_per_token == size / len(shards)


def test_the_windows_are_part_of_the_fingerprint(shards: Shards) -> None:
    prints = {WindowDataset(shards, context, stride).fingerprint for context, stride in ((8, 4), (8, 5), (9, 4))}
    assert len(prints) == 3


@pytest.mark.parametrize("stride", [0, -1, 9])
def test_gaps_are_refused(shards: Shards, stride: int) -> None:
    with pytest.raises(UserError, match=f"stride is {stride}, but it must be 1 to 8"):
        WindowDataset(shards, 8, stride)
    with pytest.raises(IndexError):
        WindowDataset(shards, 8, 8).sample(len(shards))
