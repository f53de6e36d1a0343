"""Hypotheses and references, checked, and cut into tokens once for all metrics that share a tokenizer."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from fallow.errors import UserError

T = TypeVar("T")
Tokenizer = Callable[[str], list[str]]


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of each hypothesis and of each of its references that is not empty."""

    hypotheses: tuple[list[str], ...]
    references: tuple[tuple[list[str], ...], ...]


@dataclass(frozen=True, slots=True)
class Corpus:
    """Texts to score. Hypotheses may be empty; every one has a reference that is not."""

    hypotheses: tuple[str, ...]
    references: tuple[tuple[str, ...], ...]
    """References without empty ones, in the order given."""

    width: int
    """How many reference files there are. A hypothesis with fewer references has empty lines in the others."""

    _made: dict[Hashable, Any] = field(default_factory=dict, compare=False, repr=False)

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` gives, made when it is first asked for by this key."""
        if key not in self._made:
            self._made[key] = make()
        return cast(T, self._made[key])

    def tokens(self, tokenizer: Tokenizer) -> Tokens:
        """The texts cut by `tokenizer`, each distinct text once. Tokenizers that agree give one object."""
        known: dict[str, list[str]] = {}

        def cut(text: str) -> list[str]:
            found = known.get(text)
            if found is None:
                found = known[text] = tokenizer(text)
            return found

        def make() -> Tokens:
            made = Tokens(tuple(map(cut, self.hypotheses)), tuple(tuple(map(cut, group)) for group in self.references))
            return next((other for other in self._made.values() if other == made), made)

        return self.once(tokenizer, make)

    def tokens_of_lines(self, tokenizer: Callable[[Sequence[str]], list[list[str]]]) -> Tokens:
        """The texts cut by a tokenizer of whole files: one of hypotheses, one of all references."""

        def make() -> Tokens:
            lines = iter(tokenizer([text for group in self.references for text in group]))
            references = tuple(tuple(next(lines) for _ in group) for group in self.references)
            return Tokens(tuple(tokenizer(self.hypotheses)), references)

        return self.once(tokenizer, make)

    @property
    def num_references(self) -> int:
        """References that are not empty, of all hypotheses."""
        return sum(map(len, self.references))


def build(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    prepare: Callable[[str], str],
    prepare_reference: Callable[[str], str],
    max_references: int,
) -> Corpus:
    """Check the texts and prepare them: line ends become blanks, then what the profile does to each text.

    Args:
        hypotheses: one text for each input.
        references: its references; an empty one says that there is none in this place.
        prepare: what is done to each hypothesis before any tokenizer.
        prepare_reference: what is done to each reference.
        max_references: more references than this are left out; 0 takes all.

    Raises:
        UserError: the numbers differ, there is no text, or a hypothesis has no reference.
    """
    _check(hypotheses, references)
    groups = []
    width = 0
    for number, group in enumerate(references, 1):
        # More files than the script reads are not read; an empty line in one of the others still counts as a file.
        taken = group[:max_references] if max_references else group
        width = max(width, len(taken))
        kept = tuple(text for text in (prepare_reference(_line(text)) for text in taken) if text.strip())
        if not kept:
            raise UserError(f"hypothesis {number} has no reference that is not empty. Remove it, or write a reference")
        groups.append(kept)
    return Corpus(tuple(prepare(_line(text)) for text in hypotheses), tuple(groups), width)


def _line(text: str) -> str:
    return " ".join(text.split("\n")).replace("\r", " ").strip()


def _check(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if (
        isinstance(hypotheses, str)
        or isinstance(references, str)
        or any(isinstance(group, str) for group in references)
    ):
        raise UserError(
            "references are lists of texts, one list for each hypothesis: [['a', 'b'], ['c']], not ['a', 'b']"
        )
    if len(hypotheses) != len(references):
        raise UserError(
            f"there are {len(hypotheses)} hypotheses but references for {len(references)}; the numbers must agree. "
            "A line is missing or one too many in one of them"
        )
    if not hypotheses:
        raise UserError("there is no hypothesis to score: the input is empty")
    for number, (text, group) in enumerate(zip(hypotheses, references, strict=True), 1):
        bad = [value for value in (text, *group) if not isinstance(value, str)]
        if bad:
            raise UserError(f"hypothesis {number} or one of its references is {type(bad[0]).__name__}, not a text")
