"""The beam search against a slow and obvious one, against transformers, and against trying every text."""

import itertools
import math
from collections.abc import Collection, Sequence
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from fallow.evaluate.beam import beam_search
from fallow.evaluate.decoding import Decoding
from fallow.folder import build
from tests.conformance.families import CONFIGS

Prompt = list[int]


def log_p(model: Any, tokens: Sequence[int]) -> torch.Tensor:
    """Logits after one sequence, the whole of it computed anew."""
    with torch.no_grad():
        return model(torch.tensor([list(tokens)])).logits[0, -1].float()


def slow_search(model: Any, prompt: Prompt, decoding: Decoding, room: int, stops: Collection[int]) -> list[int]:
    """The published rules on one prompt: no cache, Python lists, and always to the last step."""
    beams: list[tuple[float, list[int]]] = [(0.0, [])]
    best: tuple[float, list[int]] = (-math.inf, [])
    n = decoding.no_repeat_ngram_size
    for length in range(1, room + 1):
        candidates = []
        for total, text in beams:
            logits = log_p(model, prompt + text)
            ngrams = [tuple(text[i : i + n]) for i in range(len(text) - n + 1)] if n else []
            for token in range(len(logits)):
                if n and tuple([*text, token][-n:]) in ngrams:
                    logits[token] = -math.inf
            for token, gain in enumerate(torch.log_softmax(logits, 0).tolist()):
                candidates.append((total + gain, [*text, token]))
        candidates.sort(key=lambda candidate: -candidate[0])
        beams = []
        for total, text in candidates[: decoding.num_beams]:
            if text[-1] in stops or length == room:
                best = max(best, (total / length**decoding.length_penalty, text), key=lambda found: found[0])
            else:
                beams.append((total, text))
        if not beams:
            break
    return best[1][:-1] if best[1] and best[1][-1] in stops else best[1]


def prompts(seed: int, lengths: Sequence[int], vocabulary: int) -> list[Prompt]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randint(1, vocabulary, (length,), generator=draw).tolist() for length in lengths]


def tiny(name: str) -> Any:
    torch.manual_seed(0)
    spread = {"initializer_range": 0.4, "init_std": 0.4}  # so that the logits are not flat
    return build({**CONFIGS[name], **spread, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}).eval()


STOPS = (0, 5, 6, 7, 8)  # several, so that texts of many lengths end
SETTINGS = [
    Decoding(decoder="lora"),
    Decoding(decoder="lora", num_beams=4, length_penalty=0.8, no_repeat_ngram_size=2),
    Decoding(decoder="lora", num_beams=6, length_penalty=1.5, no_repeat_ngram_size=1),
    Decoding(decoder="lora", num_beams=5, length_penalty=-0.5, no_repeat_ngram_size=3),
]


@pytest.mark.parametrize("name", ["gpt2", "llama", "opt", "gpt_neox", "mistral"])
def test_equals_the_slow_search(name: str) -> None:
    model, given = tiny(name), prompts(1, [5, 1, 17, 9, 2], 96)
    lengths = set()
    for decoding in SETTINGS if name == "gpt2" else SETTINGS[1:2]:
        found = beam_search(model, given, decoding, room=9, stops=STOPS)
        assert found == [slow_search(model, prompt, decoding, 9, STOPS) for prompt in given], decoding
        lengths |= {len(tokens) for tokens in found}
    assert len(lengths) > 1  # some ended, some ran to the last step


def test_models_that_look_at_a_window_only() -> None:
    torch.manual_seed(0)
    spread = {"initializer_range": 0.4, "sliding_window": 6, "bos_token_id": 0, "eos_token_id": 0}
    model = build({**CONFIGS["mistral"], **spread, "pad_token_id": None}).eval()
    given = prompts(4, [3, 9, 15], 96)
    found = beam_search(model, given, SETTINGS[1], room=8, stops=STOPS)
    assert found == [slow_search(model, prompt, SETTINGS[1], 8, STOPS) for prompt in given]


@pytest.mark.parametrize("settings", [{}, {"num_beams": 2}, {"num_beams": 5, "length_penalty": 0.7}])
def test_equals_transformers_where_the_rules_agree(settings: dict[str, Any]) -> None:
    """Without an end token, and without n-grams, both are the same plain beam search."""
    model = tiny("gpt2")
    for prompt in prompts(2, [4, 11, 7], 96):
        ids = torch.tensor([prompt])
        theirs = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=10, min_new_tokens=10,
            eos_token_id=None, pad_token_id=0, **settings,
        )  # fmt: skip
        [ours] = beam_search(model, [prompt], Decoding(**settings), room=10, stops=())
        assert ours == theirs[0, len(prompt) :].tolist()


def test_greedy_equals_transformers_with_an_end_token() -> None:
    model, given = tiny("llama"), prompts(3, [6] * 12, 96)
    found = beam_search(model, given, Decoding(), room=12, stops=(0, 9, 11))
    for prompt, ours in zip(given, found, strict=True):
        ids = torch.tensor([prompt])
        mask = torch.ones_like(ids)
        theirs = model.generate(
            ids, attention_mask=mask, do_sample=False, max_new_tokens=12, eos_token_id=[0, 9, 11], pad_token_id=0
        )[0, 6:].tolist()
        assert ours == theirs[: len(ours)]
        assert len(theirs) == len(ours) or theirs[len(ours)] in (0, 9, 11)
    assert min(map(len, found)) < 12 == max(map(len, found))


@pytest.mark.parametrize("penalty", [0.5, 1.0, 2.0])
def test_with_beams_enough_it_finds_the_best_of_all_texts(penalty: float) -> None:
    torch.manual_seed(4)
    config = GPT2Config(n_layer=1, n_embd=16, n_head=2, n_positions=16, vocab_size=5, initializer_range=0.7)
    model, room, stop = GPT2LMHeadModel(config).eval(), 4, 0
    for prompt in prompts(5, [2, 3, 1, 4], 5):
        scores = {}
        for length in range(1, room + 1):
            for text in itertools.product(range(1, 5), repeat=length - 1):
                for last in range(5) if length == room else [stop]:
                    whole = [*prompt, *text, last]
                    with torch.no_grad():
                        steps = torch.log_softmax(model(torch.tensor([whole])).logits[0].double(), -1)
                    total = sum(float(steps[i - 1, whole[i]]) for i in range(len(prompt), len(whole)))
                    scores[(*text, last)] = total / length**penalty
        best = list(max(scores, key=scores.__getitem__))
        decoding = Decoding(num_beams=5**room, length_penalty=penalty)
        [found] = beam_search(model, [prompt], decoding, room=room, stops=[stop])
        assert found == (best[:-1] if best[-1] == stop else best)


def test_only_generated_text_is_looked_at_for_repeats_and_the_rest_shares_the_probability() -> None:
    """A model that always wants to say its prompt again: `generate` bans that, these rules do not."""

    class Cycle(torch.nn.Module):
        """1 2 3 1 2 3 ...; the wanted token has a logit of 3, 4 has 1, the others 0."""

        config = GPT2Config(n_layer=1)

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, input_ids: torch.Tensor, past_key_values: Any = None, **_: Any) -> Any:
            logits = torch.zeros(*input_ids.shape, 6)
            logits[..., 4] = 1.0
            logits.scatter_(-1, (input_ids % 3 + 1)[..., None], 3.0)
            return type("Output", (), {"logits": logits})

    decoding = Decoding(no_repeat_ngram_size=2)
    [found] = beam_search(Cycle(), [[1, 2, 3, 1, 2, 3]], decoding, room=5, stops=[0])
    assert found == [1, 2, 3, 1, 4]  # the prompt's 2-grams come again, then 1 2 is banned and 4 is next
    # log p of that last 4 is over the five tokens that are left: 1 / (3 + e + e^0), not 1 / (... + e^3)
    wanted = [[3.0, 1.0, 0, 0, 0, 0]] * 4 + [[-math.inf, 1.0, 0, 0, 0, 0]]
    total = sum(float(torch.log_softmax(torch.tensor(row), 0)[0 if row[0] > 0 else 1]) for row in wanted)
    from fallow.evaluate.beam import _Feed, _Search

    search, feed = _Search(1, decoding, 5, [0]), _Feed(Cycle(), [[3]], 5)
    logits = feed.first()
    for _ in range(5):
        origin, tokens = search.step(logits)
        logits = feed.next(origin, tokens) if len(tokens) else logits
    assert search.best[0].score == pytest.approx(total / 5)


def test_a_beam_that_ends_leaves_its_place_empty_for_a_step() -> None:
    """Two beams; the better one ends at once. The published rules go on with one beam, transformers with two."""
    table = {
        (): {0: 0.5, 1: 0.3, 2: 0.2},  # 0 ends; with two beams, 2 is never followed
        (0,): {1: 1.0},  # of a beam that has ended: must not matter
        (1,): {1: 0.05, 2: 0.05, 0: 0.9},
        (2,): {0: 0.999, 1: 0.0005, 2: 0.0005},
    }

    class Table(torch.nn.Module):
        config = GPT2Config(n_layer=1)

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.asked: list[tuple[int, ...]] = []

        def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
            rows = []
            for row in input_ids.tolist():
                text = () if row == [3] else (row[0],)
                self.asked.append(text)
                rows.append([table[text].get(token, 1e-9) for token in range(4)])
            return type("Output", (), {"logits": torch.tensor(rows).log()[:, None]})

    model = Table()
    [found] = beam_search(model, [[3]], Decoding(num_beams=2, length_penalty=3.0), room=2, stops=[0])
    assert found == [1]  # log 0.27 / 8 beats log 0.5 / 1
    assert (2,) not in model.asked


def test_what_is_decided_is_not_computed_on() -> None:
    """Rows leave the batch once no beam of theirs can win; the model sees fewer and fewer rows."""
    model, given = tiny("gpt2"), prompts(1, [5, 1, 17, 9, 2, 30], 96)
    rows: list[int] = []
    hook = model.register_forward_pre_hook(
        lambda _, __, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    beam_search(model, given, Decoding(num_beams=3, length_penalty=0.8), room=12, stops=range(40))
    hook.remove()
    assert rows[0] == 6  # a prompt is run once, not once for each beam
    assert rows[1:] == sorted(rows[1:], reverse=True)
    assert rows[-1] < rows[1] == 18
