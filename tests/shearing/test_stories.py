"""The example that makes a Hugging Face folder of a llama2.c model, against the published text and logits."""

import json

import torch

from tests.stories import llama2c, stories_folder


def test_stories260k_writes_the_published_story() -> None:
    folder, example = stories_folder(), llama2c()
    model = example.read_model(folder / "stories260K.bin")
    golden = json.loads((folder / "golden.json").read_text(encoding="utf-8"))
    tokenizer = example.read_tokenizer(folder / "tok512.bin", model.config.vocab_size)
    prompt, wanted = golden["prompt"], golden["greedy"]["token_ids"][:40]
    ids = [1, *tokenizer(prompt["text"], add_special_tokens=False).input_ids]
    assert ids == prompt["token_ids"]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, -1, :10]
        written = model.generate(torch.tensor([wanted[:1]]), max_new_tokens=39, do_sample=False)
    torch.testing.assert_close(logits, torch.tensor(prompt["last_position_logits_first10"]), rtol=1e-4, atol=1e-4)
    assert written[0].tolist() == wanted
    assert tokenizer.decode(ids, skip_special_tokens=True) == prompt["text"]
