"""Prune a model by its update, in place."""

from torch import nn

from fallow.pruning.heads import choose_heads, cut_heads
from fallow.pruning.report import Pruned, report_of, sizes
from fallow.pruning.settings import Heads, Pruning
from fallow.pruning.weights import prune_weights
from fallow.random import Key


def prune(model: nn.Module, settings: Pruning, *, seed: int = 0) -> Pruned:
    r"""Take from a tuned model what its update says is needless: single weights, or whole heads (DSEE, section 3.3).

    The frozen weight W0 is pruned by the size of the update dW = (alpha / rank) (U V + S) that tuning gave it: entries
    that tuning did not care to change go. The update itself stays, apart from W0, and can be tuned on.

    Args:
        model: converted by `dsee` or `lora` and tuned; or a stock model, with `score: weight`. Changed in place.
        settings: `Weights` or `Heads`.
        seed: of `score: random`.

    Returns:
        What is left.

    Raises:
        UserError: no update to go by, a layer that would lose all its heads, or a model whose heads are not known.

    >>> import torch
    >>> from fallow import convert
    >>> from fallow.pruning import Weights
    >>> block = nn.ModuleDict({"q_proj": nn.Linear(64, 64), "v_proj": nn.Linear(64, 64), "fc": nn.Linear(64, 64)})
    >>> model = nn.Sequential(nn.ModuleList([block]))
    >>> report = convert(model, "dsee", rank=4)
    >>> pruned = prune(model, Weights(ratio=0.5))
    >>> round(pruned.sparsity, 3), int((model[0][0]["fc"].weight == 0).sum())
    (0.5, 2048)

    Differs from the released code: in GPT-2 the mask is that of dW, not of its transpose, and keys are pruned by |W| as
    in BERT (keys: kept for the code's way, where, too, the share of Q and V is 1.5 times the ratio); the pooler is left
    alone (also: [pooler.dense]); |W + dW| scales both parts of the update. Differs from the paper: nothing.
    """
    before = sizes(model)
    key = Key(seed, "prune")
    heads: dict[str, list[int]] = {}
    if isinstance(settings, Heads):
        heads = choose_heads(model, settings, key)
        cut_heads(model, heads)
    else:
        prune_weights(model, settings, key)
    return report_of(model, before, heads)
