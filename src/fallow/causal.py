"""Whether a model predicts the next token: asked of its logits, not of its name or configuration."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fallow.errors import UserError, first_line

_LENGTH = 4  # short, so that one later token weighs much in what leaks
_ROUNDING = 1e-5
"""Largest difference of logits, as a share of the largest logit, that is put down to rounding in fp32 (80 steps of it).
Earlier logits of a causal model are equal to the bit, since the same products are taken of the same rows: so it was for
each of 45 families, experts included, in fp32 and bf16. A device may take rows that experts group otherwise by another
kernel, which this is for. What an encoder leaks is more even when nothing is learned: 6e-5 with 4 hidden units and 8e-4
with 16, each the least of several families with one layer of fresh weights."""


def check_causal(model: Any, source: object) -> None:
    """Refuse a model that does not predict the next token, or sees the token that it has to predict.

    Two sequences that differ in the last token alone go through the model, in evaluation mode and without gradients;
    their logits before it must be equal. No generator is touched, and the model is left as it was.

    Args:
        model: with its weights; one on the meta device is judged by its class alone.
        source: where it is from, for messages.

    Raises:
        UserError: names its class, and what is needed.
    """
    kind = type(model).__name__
    if not model.can_generate() or model.config.is_encoder_decoder:
        raise UserError(
            f"{source} holds a {kind}, which does not predict the next token. "
            "A causal language model is needed, such as GPT2LMHeadModel"
        )
    if any(parameter.is_meta for parameter in model.parameters()):
        return
    ids = _two_sequences(model)
    if ids is None:
        return
    logits = _logits(model, ids, source)
    if torch.equal(logits[0], logits[1]):
        return
    if _is_coarse(model):  # where rounding is as large as a leak: only experts' groups in half precision come here
        with _in_float32(model):
            logits = _logits(model, ids, source)
    if (logits[0] - logits[1]).abs().max() > _ROUNDING * logits.abs().max():
        raise UserError(
            f"{source} holds a {kind} that sees the token which it has to predict: its logits at a position change "
            f"with later tokens. {_advice(model.config)} a decoder such as gpt2 or llama, or labelled texts (kind: "
            "classification)"
        )


def _advice(config: Any) -> str:
    """What to set, where the configuration has a word for it."""
    for key in ("is_decoder", "causal"):
        if getattr(config, key, None) is False:
            return f"Set {key}: true in its configuration, or use"
    return "Use"


def _two_sequences(model: Any) -> Tensor | None:
    """Two rows of ordinary tokens that differ in the last one; None where the model has no room for them."""
    embeddings = model.get_input_embeddings()
    rows = int(embeddings.weight.shape[0])
    values = model.config.to_dict().items()
    special = {value for key, value in values if key.endswith("_token_id") and isinstance(value, int)}
    ordinary = [token for token in range(min(rows, 64)) if token not in special] or [0]
    positions = getattr(model.config, "max_position_embeddings", None) or _LENGTH
    length = min(_LENGTH, positions)
    if len(ordinary) < 2 or length < 2:
        return None
    first = [ordinary[place % (len(ordinary) - 1)] for place in range(length - 1)]
    both = [[*first, ordinary[-1]], [*first, ordinary[-2]]]
    return torch.tensor(both, device=embeddings.weight.device)


@torch.no_grad()
def _logits(model: Any, ids: Tensor, source: object) -> Tensor:
    """Logits before the last token, (2, t - 1, vocabulary) in fp32."""
    has_cache = getattr(model.config, "use_cache", None) is not None
    training = [module for module in model.modules() if module.training]
    devices = [ids.device] if ids.device.type == "cuda" else []
    model.eval()
    try:
        with torch.random.fork_rng(devices=devices):
            output = model(input_ids=ids, use_cache=False) if has_cache else model(input_ids=ids)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # of sizes that a configuration takes and a model cannot compute with
        raise UserError(
            f"{source} holds a {type(model).__name__} that cannot compute logits of {ids.shape[1]} tokens: "
            f"{first_line(error)}"
        ) from error
    finally:
        for module in training:
            module.training = True
    logits: Tensor = output.logits[:, :-1].float()
    if not bool(logits.isfinite().all()):
        raise UserError(f"{source} holds a {type(model).__name__} whose logits are not finite numbers. It is damaged")
    return logits


def _is_coarse(model: nn.Module) -> bool:
    return any(p.is_floating_point() and p.element_size() < 4 for p in model.parameters())


@contextmanager
def _in_float32(model: nn.Module) -> Iterator[None]:
    """The model in fp32, and as it was afterwards, to the bit."""
    tensors = [*model.parameters(), *model.buffers()]
    before = [(t, t.data) for t in tensors if t.is_floating_point() and t.element_size() < 4]
    try:
        for tensor, data in before:
            tensor.data = data.float()
        yield
    finally:
        for tensor, data in before:
            tensor.data = data
