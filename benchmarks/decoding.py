"""Processor time of the two decoders for the same beams, on a random GPT-2 whose texts all run to the last token.

    python benchmarks/decoding.py
    python benchmarks/decoding.py --layers 12 --width 768 --contexts 16 --rounds 3

Rounds alternate; given are medians, and the median ratio of the pairs. A length penalty of 2 favours long texts, so
that both do the same number of steps; on a trained model the search of `lora` also leaves out the prompts that are
decided.
"""

import argparse
import statistics
import time

import torch
from record import write_record
from transformers import GPT2Config, GPT2LMHeadModel

from fallow.evaluate.decoding import DECODER_NAMES, Decoding
from fallow.evaluate.generation import generate_tokens


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--vocab", type=int, default=2048)
    parser.add_argument("--contexts", type=int, default=64)
    parser.add_argument("--beams", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = GPT2Config(
        n_layer=args.layers,
        n_embd=args.width,
        n_head=max(1, args.width // 32),
        vocab_size=args.vocab,
        n_positions=256,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = GPT2LMHeadModel(config).eval()
    prompts = [torch.randint(1, args.vocab, (int(n),)).tolist() for n in torch.randint(20, 80, (args.contexts,))]
    seconds: dict[str, list[float]] = {name: [] for name in DECODER_NAMES}
    for number in range(args.rounds + 1):
        for name in DECODER_NAMES:
            decoding = Decoding(
                decoder=name, num_beams=args.beams, length_penalty=2.0, no_repeat_ngram_size=4, batch_size=32
            )
            begin = time.process_time()
            found = generate_tokens(model, prompts, decoding, stops=[0])
            if number:  # the first round warms up
                seconds[name].append(time.process_time() - begin)
            assert min(map(len, found)) > 56, "texts ended early; take other weights"
    ratio = statistics.median(a / b for a, b in zip(seconds["generate"], seconds["lora"], strict=True))
    results = {
        **vars(args),
        "seconds": {name: round(statistics.median(values), 2) for name, values in seconds.items()},
        "generate_over_lora": round(ratio, 3),
    }
    print(results, write_record("decoding", results), sep="\n")


if __name__ == "__main__":
    main()
