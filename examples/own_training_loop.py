"""A training loop of your own around fallow: three calls, convert, method.after_step and merge.

python examples/own_training_loop.py
"""

import inspect
from collections.abc import Iterator

import torch
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel

import fallow
from fallow.train import Optimizer
from fallow.train.optimizers import groups_of

STEPS, BATCH, CONTEXT, RATE = 60, 8, 64, 2e-3


def batches(generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Random windows of a text, one token a byte."""
    data = torch.tensor(list(inspect.getsource(inspect).encode()))
    while True:
        starts = torch.randint(len(data) - CONTEXT, (BATCH,), generator=generator)
        yield torch.stack([data[start : start + CONTEXT] for start in starts.tolist()])


def main() -> None:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=256, n_layer=2, n_embd=64, n_head=4, n_positions=CONTEXT, bos_token_id=0, eos_token_id=0
    )
    model = GPT2LMHeadModel(config)

    method = fallow.methods.Sparse(sparsity=0.75, parametrization="supar")
    fallow.convert(model, method, seed=0)  # call 1

    # Any optimizer does. SuPar wants a higher rate for the sparse values; biases and norms are not decayed.
    optimizer = torch.optim.AdamW(groups_of(model, method, Optimizer(lr=RATE, weight_decay=0.1)))
    stream = batches(torch.Generator().manual_seed(0))
    losses = []
    for step in range(1, STEPS + 1):
        tokens = next(stream)
        logits = model(input_ids=tokens[:, :-1], use_cache=False).logits
        loss = functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        method.after_step(model, step, optimizer)  # call 2: nothing for `sparse`, but other methods may need it
        optimizer.zero_grad()
        losses.append(loss.item())
    print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f} in {STEPS} steps")

    model = fallow.merge(model)  # call 3: a stock GPT-2 again
    zeros = (model.transformer.h[0].mlp.c_fc.weight == 0).float().mean().item()
    print(f"after merging, {zeros:.2%} of the first feed-forward matrix is zero")
    assert losses[-1] < losses[0]
    assert zeros == 0.75


if __name__ == "__main__":
    main()
