import gzip
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest
import torch
from transformers import GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from fallow.errors import UserError
from fallow.evaluate.decoders import DECODERS
from fallow.evaluate.decoding import Decoding
from fallow.evaluate.generation import generate_pairs, generate_tokens
from fallow.evaluate.prompts import check_vocabulary
from fallow.evaluate.transcript import Transcript

EOS = 0


class Letters:
    """Each character is a token; only what generation asks of a tokenizer."""

    eos_token_id = EOS

    def __len__(self) -> int:
        return 97

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        assert not add_special_tokens
        return {"input_ids": [ord(c) % 96 + 1 for c in text]}

    def decode(self, ids: Sequence[int], skip_special_tokens: bool) -> str:
        return " ".join(map(str, ids))


def single(model: GPT2LMHeadModel, prompt: list[int], **settings: object) -> list[int]:
    """transformers' own generate on one prompt without padding, cut at the end token."""
    ids = torch.tensor([prompt])
    with torch.no_grad():
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, eos_token_id=EOS, pad_token_id=EOS, **settings
        )
    new = out[0, len(prompt) :].tolist()
    return new[: new.index(EOS)] if EOS in new else new


def prompts(seed: int, lengths: Sequence[int]) -> list[list[int]]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randint(1, 97, (length,), generator=draw).tolist() for length in lengths]


SETTINGS = [
    ({}, {}),
    ({"no_repeat_ngram_size": 2}, {"no_repeat_ngram_size": 2}),
    ({"num_beams": 3, "length_penalty": 0.8}, {"num_beams": 3, "length_penalty": 0.8}),
    ({"num_beams": 4, "no_repeat_ngram_size": 3}, {"num_beams": 4, "no_repeat_ngram_size": 3}),
]


@pytest.mark.parametrize(("ours", "theirs"), SETTINGS)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_equals_transformers_on_single_prompts(
    gpt2: GPT2LMHeadModel, ours: dict[str, object], theirs: dict[str, object], batch_size: int
) -> None:
    given = prompts(3, [5, 1, 17, 9, 2, 30, 17])
    results = generate_tokens(gpt2, given, Decoding(max_new_tokens=12, batch_size=batch_size, **ours), stops=[EOS])
    assert results == [single(gpt2, prompt, max_new_tokens=12, **theirs) for prompt in given]
    assert len({tuple(result) for result in results}) > 3


def test_texts_end_at_the_end_token(gpt2: GPT2LMHeadModel) -> None:
    """A head that prefers the end token after a few steps: batches with rows of different lengths."""
    given = prompts(5, [3] * 40)
    results = generate_tokens(gpt2, given, Decoding(max_new_tokens=30, batch_size=8), stops=[EOS])
    lengths = {len(result) for result in results}
    assert len(lengths) > 1
    assert all(EOS not in result for result in results)


def test_rotary_models_too() -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=48,
        vocab_size=97, max_position_embeddings=64, bos_token_id=1, eos_token_id=EOS, initializer_range=0.4,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    given = prompts(4, [4, 20, 1])
    results = generate_tokens(model, given, Decoding(max_new_tokens=10, num_beams=2), stops=[EOS])
    assert results == [single(model, prompt, max_new_tokens=10, num_beams=2) for prompt in given]


def test_near_the_last_position_fewer_tokens_come_and_neighbours_keep_theirs(gpt2: GPT2LMHeadModel) -> None:
    given = prompts(6, [60, 60, 62, 10])
    results = generate_tokens(gpt2, given, Decoding(max_new_tokens=8), stops=[EOS])
    assert results == [single(gpt2, p, max_new_tokens=min(8, 64 - len(p))) for p in given]


def test_a_prompt_without_room_is_refused_before_anything_runs(gpt2: GPT2LMHeadModel) -> None:
    with pytest.raises(UserError, match=r"1 of 2 contexts leave no room .* longest has 70 tokens and the model 64"):
        generate_tokens(gpt2, prompts(1, [70, 3]), Decoding(), stops=[EOS])
    with pytest.raises(UserError, match="no tokens"):
        generate_tokens(gpt2, [[]], Decoding(), stops=[EOS])


def test_settings_in_the_models_folder_do_not_leak_in(gpt2: GPT2LMHeadModel) -> None:
    given = prompts(8, [4, 6])
    expected = generate_tokens(gpt2, given, Decoding(max_new_tokens=10), stops=[EOS])
    before = gpt2.generation_config
    try:
        gpt2.generation_config = type(before)(repetition_penalty=5.0, do_sample=True, temperature=3.0, min_new_tokens=9)
        mine = gpt2.generation_config
        assert generate_tokens(gpt2, given, Decoding(max_new_tokens=10), stops=[EOS]) == expected
        assert gpt2.generation_config is mine
    finally:
        gpt2.generation_config = before


def test_each_distinct_context_is_decoded_once_and_order_is_kept(gpt2: GPT2LMHeadModel) -> None:
    seen: list[tuple[int, int]] = []
    texts = ["abc", "a longer context", "abc", "z", "abc"]
    calls: list[int] = []
    hook = gpt2.register_forward_pre_hook(
        lambda _, __, kwargs: calls.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    outputs = generate_pairs(
        gpt2, Letters(), texts, Decoding(max_new_tokens=6, batch_size=2), progress=lambda *a: seen.append(a)
    )
    hook.remove()
    assert seen == [(2, 3), (3, 3)]
    assert max(calls) == 2
    assert outputs[0] == outputs[2] == outputs[4] != outputs[3]
    for text, output in zip(texts, outputs, strict=True):
        prompt = [*Letters()(text, add_special_tokens=False)["input_ids"], EOS]
        assert output == " ".join(map(str, single(gpt2, prompt, max_new_tokens=6)))


@pytest.mark.parametrize("decoder", ["generate", "lora"])
def test_an_interrupted_generation_goes_on_with_the_same_texts(
    gpt2: GPT2LMHeadModel, decoder: Literal["generate", "lora"], tmp_path: Path
) -> None:
    texts = [f"{'context ' * (n % 4)}{n}" for n in range(11)] * 2
    decoding = Decoding(decoder=decoder, num_beams=3, max_new_tokens=6, batch_size=4)
    calm = Transcript(tmp_path / "calm", {})
    expected = generate_pairs(gpt2, Letters(), texts, decoding, transcript=calm)

    def stop(done: int, total: int) -> None:
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_pairs(gpt2, Letters(), texts, decoding, transcript=Transcript(tmp_path / "a", {}), progress=stop)
    raw = (tmp_path / "a").read_bytes()
    assert raw.count(b"\n") == 1 + 8
    (tmp_path / "a").write_bytes(raw[:-3])  # and the last line is torn
    seen: list[tuple[int, int]] = []
    resumed = Transcript(tmp_path / "a", {})
    found = generate_pairs(
        gpt2, Letters(), texts, decoding, transcript=resumed, progress=lambda *numbers: seen.append(numbers)
    )
    assert found == expected
    assert seen == [(8, 11), (11, 11)]  # the batch of the torn line, and the one that was not begun
    assert (tmp_path / "a").read_bytes() == (tmp_path / "calm").read_bytes()
    assert [json.loads(line)["context"] for line in (tmp_path / "a").read_text().splitlines()[1:]] == texts[:11]
    assert generate_pairs(gpt2, Letters(), texts, decoding, transcript=resumed, progress=stop) == expected


def test_lora_ends_a_text_at_a_blank_line(gpt2: GPT2LMHeadModel) -> None:
    class Lines(Letters):
        """Token 87 is a blank line; token 96 holds one among other signs."""

        def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
            return {"input_ids": [87]} if text == "\n\n" else super().__call__(text, add_special_tokens)

        def decode(self, ids: Sequence[int], skip_special_tokens: bool) -> str:
            return " ".join({96: "holds\n\nafter"}.get(i, str(i)) for i in ids)

    assert DECODERS["lora"].stops(Lines()) == [EOS, 87]
    assert DECODERS["lora"].stops(Letters()) == [EOS]  # two tokens, one for each newline
    assert DECODERS["generate"].stops(Lines()) == [EOS]
    assert DECODERS["lora"].text(Lines(), [3, 96, 4]) == "3 holds"
    assert DECODERS["generate"].text(Lines(), [3, 96, 4]) == "3 holds\n\nafter 4"
    texts = [chr(n) for n in range(40, 70)]
    ours = generate_pairs(gpt2, Lines(), texts, Decoding(decoder="lora", max_new_tokens=20))
    plain = generate_pairs(gpt2, Lines(), texts, Decoding(max_new_tokens=20))
    assert ours == [re.split(r"\b87\b|\n\n", text)[0].strip() for text in plain]
    assert ours != plain


def test_the_published_stop_tokens(tmp_path: Path) -> None:
    root = os.environ.get("FALLOW_DEV_DATA") or Path(__file__).resolve().parents[3] / "shared"
    folder = Path(root) / "models" / "gpt2-bpe"
    if not folder.is_dir():
        pytest.skip(f"development data is not at {folder}")
    from transformers import GPT2TokenizerFast

    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes(gzip.decompress((folder / f"{name}.gz").read_bytes()))
    tokenizer = GPT2TokenizerFast.from_pretrained(tmp_path)
    assert DECODERS["lora"].stops(tokenizer) == [50256, 628]


def test_the_data_sets_own_encoding_is_used(gpt2: GPT2LMHeadModel) -> None:
    output = generate_pairs(gpt2, Letters(), ["x"], Decoding(max_new_tokens=6), encode=lambda _: [7, 8, 9])
    assert output == [" ".join(map(str, single(gpt2, [7, 8, 9], max_new_tokens=6)))]


def test_dropout_is_off_and_the_mode_comes_back(gpt2: GPT2LMHeadModel) -> None:
    given, decoding = prompts(2, [5]), Decoding(max_new_tokens=8)
    expected = generate_tokens(gpt2, given, decoding, stops=[EOS])
    gpt2.train()
    try:
        assert generate_tokens(gpt2, given, decoding, stops=[EOS]) == expected
        assert gpt2.training
    finally:
        gpt2.eval()


def test_the_wrong_tokenizer_is_refused(gpt2: GPT2LMHeadModel) -> None:
    class Larger(Letters):
        def __len__(self) -> int:
            return 98

    class Endless(Letters):
        eos_token_id = None  # type: ignore[assignment]

    with pytest.raises(UserError, match="98 tokens, but the model knows only 97: it is the wrong tokenizer"):
        check_vocabulary(gpt2, Larger())
    with pytest.raises(UserError, match="wrong tokenizer"):
        generate_pairs(gpt2, Larger(), ["a"], Decoding())
    with pytest.raises(UserError, match="no end token"):
        generate_pairs(gpt2, Endless(), ["a"], Decoding())
