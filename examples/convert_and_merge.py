"""Convert a stock model, look at it, save it, load it, merge it back; the outputs stay the same.

python examples/convert_and_merge.py
"""

import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

import fallow


def main() -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
    )
    model = LlamaForCausalLM(config).eval()
    tokens = torch.arange(16)[None]

    # 75% of the entries of every linear layer in the blocks cease to exist.
    print(fallow.convert(model, "sparse", sparsity=0.75, seed=0))
    counts = fallow.count(model)
    print(f"{counts.positions:,} positions, {counts.stored:,} stored, {counts.nonzero:,} not zero")
    with torch.no_grad():
        before = model(tokens).logits

    with tempfile.TemporaryDirectory() as folder:
        fallow.save(model, Path(folder) / "sparse")  # values only: the supports follow from the seed
        again = fallow.load(Path(folder) / "sparse").eval()

        fallow.merge(again).save_pretrained(Path(folder) / "merged")  # stock layers, with zeros
        stock = AutoModelForCausalLM.from_pretrained(Path(folder) / "merged")
        with torch.no_grad():
            after = stock(tokens).logits
    print(f"largest difference of the logits after saving, loading and merging: {(after - before).abs().max():.1e}")
    torch.testing.assert_close(after, before, rtol=0, atol=1e-5)


if __name__ == "__main__":
    main()
