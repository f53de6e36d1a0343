"""Scores of a model on pairs: generate a text for each context, compare it with the references."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fallow.evaluate.decoders import DECODERS
from fallow.evaluate.decoding import Decoding
from fallow.evaluate.generation import generate_pairs
from fallow.evaluate.progress import Progress
from fallow.evaluate.selection import spread
from fallow.evaluate.transcript import Transcript
from fallow.metrics.scores import PLAIN, score_texts

Group = tuple[str, Sequence[str]]
"""A context and its references."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PairScores:
    """What was generated, and how well it agrees with the references."""

    metrics: dict[str, Any]
    """The scores, by which profile, and what exactly each of them is; see `score_texts`."""

    decoding: dict[str, Any]
    """How the texts were made: the settings, the ids that ended a text (`stops`), and all of it in `words`."""

    num_contexts: int
    """Contexts that were decoded."""

    num_contexts_total: int
    """Contexts in the data set; more than `num_contexts` when `decoding.max_contexts` asked for a part."""

    contexts: tuple[str, ...]
    references: tuple[tuple[str, ...], ...]
    outputs: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The numbers, without the texts; each score also under its own name, on the scale of its script."""
        keys = ("metrics", "decoding", "num_contexts", "num_contexts_total")
        return {**self.metrics["scores"], **{key: getattr(self, key) for key in keys}}

    def samples(self, limit: int) -> list[dict[str, Any]]:
        """A few contexts with references and output, evenly spread."""
        return [
            {"context": self.contexts[i], "references": list(self.references[i]), "output": self.outputs[i]}
            for i in spread(len(self.contexts), limit)
        ]


def evaluate_pairs(
    model: Any,
    tokenizer: Any,
    groups: Sequence[Group],
    decoding: Decoding,
    *,
    encode: Callable[[str], Sequence[int]] | None = None,
    profile: str = PLAIN,
    lowercase: bool = False,
    progress: Progress | None = None,
    transcript: Transcript | None = None,
) -> PairScores:
    """Generate for each context (or an even part of them, `decoding.max_contexts`) and score against its references.

    Raises:
        UserError: see `generate_pairs` and `score_texts`.
    """
    chosen = [groups[i] for i in spread(len(groups), decoding.max_contexts)]
    contexts = [context for context, _ in chosen]
    references = [list(texts) for _, texts in chosen]
    outputs = generate_pairs(
        model, tokenizer, contexts, decoding, encode=encode, progress=progress, transcript=transcript
    )
    return PairScores(
        metrics=score_texts(profile, outputs, references, lowercase=lowercase),
        decoding={
            **asdict(decoding),
            "stops": DECODERS[decoding.decoder].stops(tokenizer),
            "words": str(decoding),
        },
        num_contexts=len(chosen),
        num_contexts_total=len(groups),
        contexts=tuple(contexts),
        references=tuple(map(tuple, references)),
        outputs=tuple(outputs),
    )
