"""Beam search by the rules of the published LoRA and DSEE pipeline, batched, with a key-value cache.

Shapes: b = prompts of a batch that are still searched, k = beams, n = b k (b before the first step), p = positions of
a prompt, l = generated tokens, v = vocabulary, w = windows of generated text, g = length of an n-gram.
"""

import inspect
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from fallow.evaluate.decoding import Decoding

Tokens = list[int]


def beam_search(
    model: Any, prompts: Sequence[Sequence[int]], decoding: Decoding, *, room: int, stops: Collection[int]
) -> list[Tokens]:
    r"""The best continuation of each prompt, without its stop token.

        score = (sum of log p of the generated tokens) / (their number, the stop token included) ** length_penalty

    A step looks at every continuation of every beam by one token and keeps the best `num_beams`. Those of them that end
    in a stop token are weighed against the best finished text so far and leave an empty place, which the next step
    fills. In the end unfinished beams compete, too. What would repeat an n-gram of the *generated* text is removed
    before the softmax, so that the other tokens share its probability.

    Args:
        model: a causal language model in evaluation mode.
        prompts: token ids, none empty; decoded together.
        decoding: `num_beams`, `length_penalty` and `no_repeat_ngram_size` are used.
        room: most tokens to generate, the stop token included.
        stops: ids that end a text.

    Source: `gpt2_beam.py` of the code released with Hu et al., 2021 (LoRA), which that of DSEE copies.

    Differs from the released code, with the same result: a prompt is run once and not once for each beam; it leaves the
    batch as soon as no beam can win any more, instead of after the last step (sums of log-probabilities only fall, so a
    beam can at best reach its sum over the largest divisor); the logarithm of the softmax is taken in one step. With
    another result: several prompts may be decoded together (that code reads the first logits of wrong rows when its
    batch is larger than 1), and there may be more beams than tokens in the vocabulary.
    """
    search = _Search(len(prompts), decoding, room, sorted(stops))
    with torch.no_grad():
        feed = _Feed(model, prompts, room)
        logits_nv = feed.first()
        while True:
            from_n, tokens_n = search.step(logits_nv)
            if not len(tokens_n):
                return search.texts()
            logits_nv = feed.next(from_n, tokens_n)


@dataclass(slots=True)
class _Best:
    score: float = -float("inf")
    tokens: tuple[int, ...] = ()


class _Search:
    """Which beams live and what is best so far; knows nothing of models."""

    def __init__(self, num_prompts: int, decoding: Decoding, room: int, stops: list[int]) -> None:
        self.beams, self.penalty, self.ngram = (
            decoding.num_beams,
            decoding.length_penalty,
            decoding.no_repeat_ngram_size,
        )
        self.room, self.stops = room, stops
        self.best = [_Best() for _ in range(num_prompts)]
        self.alive = list(range(num_prompts))
        self.scores_bk = torch.zeros(num_prompts, 1)
        self.history_nl = torch.zeros(num_prompts, 0, dtype=torch.long)

    def step(self, logits_nv: Tensor) -> tuple[Tensor, Tensor]:
        """Take the next tokens; gives for each beam that lives the row of `logits_nv` it comes from, and its token."""
        device = logits_nv.device
        if self.history_nl.shape[1] == 0:
            self.scores_bk, self.history_nl = self.scores_bk.to(device), self.history_nl.to(device)
        log_p_nv = torch.log_softmax(_without_repeats(logits_nv.float(), self.history_nl, self.ngram), dim=-1)
        b, vocabulary = len(self.alive), logits_nv.shape[1]
        total_bc = (self.scores_bk[:, :, None] + log_p_nv.view(b, -1, vocabulary)).view(b, -1)
        scores_bk, choice_bk = _top(total_bc, self.beams)
        rows_b = torch.arange(b, device=device)[:, None]
        from_bk = rows_b * self.scores_bk.shape[1] + choice_bk // vocabulary
        tokens_bk = choice_bk % vocabulary
        history_nl = torch.cat((self.history_nl[from_bk.view(-1)], tokens_bk.view(-1, 1)), dim=1)
        length = history_nl.shape[1]

        last = length == self.room
        ended_bk = torch.isin(tokens_bk, torch.tensor(self.stops, device=device)) & scores_bk.isfinite()
        self._weigh(scores_bk, ended_bk, history_nl)
        scores_bk = scores_bk.masked_fill(ended_bk, -float("inf"))
        if last:
            self._weigh(scores_bk, scores_bk.isfinite(), history_nl)
        stays = [] if last else self._undecided(scores_bk, length)

        rows = torch.tensor(stays, dtype=torch.long, device=device)
        kept_n = (rows[:, None] * self.beams + torch.arange(self.beams, device=device)).view(-1)
        self.alive = [self.alive[row] for row in stays]
        self.scores_bk, self.history_nl = scores_bk[rows], history_nl[kept_n]
        return from_bk.view(-1)[kept_n], tokens_bk.view(-1)[kept_n]

    def texts(self) -> list[Tokens]:
        """The best continuations, without stop tokens."""
        found = [list(best.tokens) for best in self.best]
        return [tokens[:-1] if tokens and tokens[-1] in self.stops else tokens for tokens in found]

    def _weigh(self, scores_bk: Tensor, which_bk: Tensor, history_nl: Tensor) -> None:
        """Compare some beams with the best so far; of equals the earlier one stays."""
        scored_bk = scores_bk / history_nl.shape[1] ** self.penalty
        for row, beam in which_bk.nonzero().tolist():
            best, score = self.best[self.alive[row]], float(scored_bk[row, beam])
            if score > best.score:
                best.score, best.tokens = score, tuple(history_nl[row * self.beams + beam].tolist())

    def _undecided(self, scores_bk: Tensor, length: int) -> list[int]:
        """Rows in which a living beam may still win."""
        divisor = max((length + 1) ** self.penalty, self.room**self.penalty)
        hopes = (scores_bk.amax(dim=1) / divisor).tolist()
        return [row for row, hope in enumerate(hopes) if hope > self.best[self.alive[row]].score]


def _top(total_bc: Tensor, beams: int) -> tuple[Tensor, Tensor]:
    """The best candidates of each row; where there are fewer, places that never win."""
    found = min(beams, total_bc.shape[1])
    scores_bk, choice_bk = torch.topk(total_bc, found, dim=1)
    missing = (0, beams - found)
    pad = torch.nn.functional.pad
    return pad(scores_bk, missing, value=-float("inf")), pad(choice_bk, missing)


def _without_repeats(logits_nv: Tensor, history_nl: Tensor, ngram: int) -> Tensor:
    """Logits without the tokens that would complete an n-gram a second time.

    >>> _without_repeats(torch.zeros(1, 4), torch.tensor([[3, 1, 2, 3]]), 2).tolist()
    [[0.0, -inf, 0.0, 0.0]]
    """
    length = history_nl.shape[1]
    if not ngram or length < ngram:
        return logits_nv
    windows_nwg = history_nl.unfold(1, ngram, 1)
    recent_n1g = history_nl[:, None, length - ngram + 1 :]
    again_nw = (windows_nwg[:, :, :-1] == recent_n1g).all(dim=-1)
    row_m, window_m = again_nw.nonzero(as_tuple=True)
    logits_nv = logits_nv.clone()
    logits_nv[row_m, windows_nwg[row_m, window_m, -1]] = -float("inf")
    return logits_nv


class _Feed:
    """Runs the model over prompts, then token by token, and keeps its cache in step with the beams."""

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]], room: int) -> None:
        from fallow.evaluate.cache import beam_cache
        from fallow.tuners.cache import cache_argument

        self.model, self.cache_argument = model, cache_argument(model)
        device = next(model.parameters()).device
        width = max(map(len, prompts))
        self.ids_np = torch.zeros(len(prompts), width, dtype=torch.long)
        self.mask_np = torch.zeros_like(self.ids_np)
        for row, prompt in enumerate(prompts):
            self.ids_np[row, width - len(prompt) :] = torch.as_tensor(list(prompt), dtype=torch.long)
            self.mask_np[row, width - len(prompt) :] = 1
        self.ids_np, self.mask_np = self.ids_np.to(device), self.mask_np.to(device)
        self.padded = bool((self.mask_np == 0).any())
        self.cache = beam_cache(model.config, room)
        self.takes = set(inspect.signature(model.forward).parameters)

    def first(self) -> Tensor:
        """Logits (n, v) of the token after each prompt."""
        places_np = (self.mask_np.cumsum(dim=1) - 1).clamp(min=0)
        return self._logits(self.ids_np, places_np)

    def next(self, from_n: Tensor, tokens_n: Tensor) -> Tensor:
        """Logits (n, v) after one more token; row i goes on from row `from_n[i]` of the call before."""
        from fallow.evaluate.cache import reorder

        if len(from_n) != len(self.mask_np):  # some prompts are done, or beams begin
            reorder(self.cache, from_n, same_prompts=False)
            self.mask_np = self.mask_np[from_n]
        elif not torch.equal(from_n, torch.arange(len(from_n), device=from_n.device)):
            reorder(self.cache, from_n, same_prompts=True)
        places_n1 = self.mask_np.sum(dim=1, keepdim=True)
        self.mask_np = torch.cat((self.mask_np, torch.ones_like(places_n1)), dim=1)
        return self._logits(tokens_n[:, None], places_n1)

    def _logits(self, ids_nt: Tensor, places_nt: Tensor) -> Tensor:
        extra: dict[str, Any] = {"position_ids": places_nt, "logits_to_keep": 1}
        output = self.model(
            input_ids=ids_nt,
            attention_mask=self.mask_np if self.padded else None,
            use_cache=True,
            **{self.cache_argument: self.cache},
            **{key: value for key, value in extra.items() if key in self.takes},
        )
        return cast(Tensor, output.logits)[:, -1]
