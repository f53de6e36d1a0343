"""A model of llama2.c, such as stories260K, as a Hugging Face folder that recipes can begin with.

    python benchmarks/llama2c.py stories260K.bin tok512.bin stories260K

The file is "version 0" of llama2.c: seven int32 (sizes; a vocabulary above 0: the head is the embedding), then
float32 arrays, every layer's of one kind after another. l: layers, d: hidden, m: inner, h: heads, e: size of a head.
"""

import struct
import sys
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast


def main() -> None:
    """Convert the two files, and say what it became."""
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    model_file, tokenizer_file, folder = map(Path, sys.argv[1:])
    model = read_model(model_file)
    model.save_pretrained(folder)
    read_tokenizer(tokenizer_file, model.config.vocab_size).save_pretrained(folder)
    print(f"{folder}: {model.num_parameters():,} parameters")


def read_model(path: Path) -> LlamaForCausalLM:
    """The model in a file of llama2.c."""
    raw = path.read_bytes()
    d, m, num_layers, num_heads, num_kv, vocabulary, positions = struct.unpack("<7i", raw[:28])
    if vocabulary <= 0:
        raise SystemExit(f"{path} has a head of its own, which this example does not read")
    e = d // num_heads
    config = LlamaConfig(
        hidden_size=d,
        intermediate_size=m,
        num_hidden_layers=num_layers,
        num_attention_heads=num_heads,
        num_key_value_heads=num_kv,
        vocab_size=vocabulary,
        max_position_embeddings=positions,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
    )
    numbers, at = torch.from_numpy(np.frombuffer(raw, "<f4", offset=28).copy()), 0

    def take(*shape: int) -> Tensor:
        nonlocal at
        size = int(np.prod(shape))
        at += size
        return numbers[at - size : at].view(shape).clone()

    found = {"model.embed_tokens.weight": take(vocabulary, d)}
    stacked = {
        "input_layernorm": take(num_layers, d),
        "self_attn.q_proj": _halved(take(num_layers, num_heads, e, d)),
        "self_attn.k_proj": _halved(take(num_layers, num_kv, e, d)),
        "self_attn.v_proj": take(num_layers, num_kv * e, d),
        "self_attn.o_proj": take(num_layers, d, d),
        "post_attention_layernorm": take(num_layers, d),
        "mlp.gate_proj": take(num_layers, m, d),
        "mlp.down_proj": take(num_layers, d, m),
        "mlp.up_proj": take(num_layers, m, d),
    }
    found |= {f"model.layers.{i}.{name}.weight": w for name, each in stacked.items() for i, w in enumerate(each)}
    found["model.norm.weight"] = take(d)
    found["lm_head.weight"] = found["model.embed_tokens.weight"]
    model = LlamaForCausalLM(config)
    model.load_state_dict(found, strict=True)
    return model.eval()


def _halved(weight_lhed: Tensor) -> Tensor:
    """Rotary pairs are neighbours there, and half a head apart in transformers."""
    l, h, e, d = weight_lhed.shape  # noqa: E741 - the legend's
    return weight_lhed.view(l, h, e // 2, 2, d).transpose(2, 3).reshape(l, h * e, d)


def read_tokenizer(path: Path, vocabulary: int) -> PreTrainedTokenizerFast:
    """The tokenizer in a file of llama2.c: the pair of pieces with the highest score is merged first."""
    raw, at, pieces = path.read_bytes(), 4, []
    for number in range(vocabulary):
        score, size = struct.unpack_from("<fi", raw, at)
        at += 8 + size
        text = raw[at - size : at].decode("utf-8", "replace").replace(" ", "\u2581")
        pieces.append((f"<0x{number - 3:02X}>" if 3 <= number < 259 else text, score))
    pieces[:3] = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0)]
    ids = {piece: number for number, (piece, _) in enumerate(pieces)}
    merges = []
    for piece, score in pieces[259:]:
        splits = [(piece[:i], piece[i:]) for i in range(1, len(piece)) if piece[:i] in ids and piece[i:] in ids]
        merges += [(-score, ids[left], ids[right], (left, right)) for left, right in splits]
    merged = [pair for *_, pair in sorted(merges)]
    backend = Tokenizer(models.BPE(vocab=ids, merges=merged, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    backend.decoder = decoders.Sequence([
        decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0),
    ])  # fmt: skip
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<unk>"
    )


if __name__ == "__main__":
    main()
