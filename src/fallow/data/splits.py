"""From the data part of a recipe to data sets that can be trained on."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fallow.data.batch import Dataset
from fallow.data.classification import ClassificationDataset
from fallow.data.documents import Part
from fallow.data.files import is_folder_of_shards
from fallow.data.formats import read_pairs
from fallow.data.formats.glue import Example, read_glue
from fallow.data.formats.pair import Pair, Role
from fallow.data.index import INDEX
from fallow.data.mixture import Mixture
from fallow.data.pairs import PairDataset
from fallow.data.prepare import Progress, prepare_source, refuse_altered
from fallow.data.proportions import Proportions
from fallow.data.settings import ClassificationData, Data, PairData, TextData, TextSource, TokenizerSettings
from fallow.data.shards import Shards
from fallow.data.sources import read_source
from fallow.data.task import task_of
from fallow.data.tokenizer import load_tokenizer, train_tokenizer
from fallow.data.tokens import TokenDataset
from fallow.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, slots=True)
class Splits:
    """The data sets of a recipe.

    Attributes:
        train: (name, data set, weight) of each source, as `Mixture` takes them.
        valid: data sets to validate on, by name; empty when none was asked for.
        test: pairs to generate for, or labelled texts to judge on.
        report: what was read, kept, cut and left out; plain numbers and names, for the run record.
        seed: of the order of samples.
    """

    train: tuple[tuple[str, Dataset, float], ...]
    valid: dict[str, Dataset]
    test: Dataset | None
    report: dict[str, Any] = field(default_factory=dict)
    seed: int = 0

    def mixture(self, batch: int, *, rank: int = 0, world: int = 1, proportions: Proportions | None = None) -> Mixture:
        """The stream of training batches.

        Args:
            batch: sequences in a global batch.
            rank: this process.
            world: number of processes.
            proportions: shares of the sources that move with the losses; by default they are fixed.
        """
        return Mixture(self.train, seed=self.seed, batch=batch, rank=rank, world=world, proportions=proportions)


def open_data(
    settings: Data,
    tokenizer: "PreTrainedTokenizerFast",
    folder: Path,
    seed: int = 0,
    *,
    prepare: bool = True,
    checksum: bool = True,
    progress: Progress | None = None,
) -> Splits:
    """Open the data of a recipe; tokenise first what is not in `folder` yet.

    With several processes one calls this with `prepare`, the others after it without.

    Args:
        settings: of text, pairs or classification.
        tokenizer: from `open_tokenizer` or `load_tokenizer`.
        folder: where shards are kept; begun work in it is continued.
        seed: of the order of samples.
        prepare: make what is missing; without it, that is an error.
        checksum: compare shards with their checksums.
        progress: called while text is tokenised.

    Raises:
        UserError: anything wrong with the settings, the files, or the shards.
    """
    if isinstance(settings, PairData):
        return _open_pairs(settings, tokenizer, folder, seed)
    if isinstance(settings, ClassificationData):
        return _open_classification(settings, tokenizer, seed)
    held_out = settings.valid_share
    opener = _Opener(tokenizer, folder, settings.context, prepare, checksum, progress)
    train: list[tuple[str, Dataset, float]] = []
    valid: dict[str, Dataset] = {}
    for source in settings.sources:
        train.append((source.name, opener.open(source, "train" if held_out else "all", held_out), source.weight))
        if held_out:
            valid[source.name] = opener.open(source, "valid", held_out)
    for source in settings.valid:
        valid[source.name] = opener.open(source, "all", 0.0, role="valid")
    return Splits(tuple(train), valid, None, opener.report, seed)


def training_texts(settings: Data, folder: Path) -> Iterator[str]:
    """The text a tokenizer may be trained on: training documents of all sources in turn, or both texts of pairs.

    Held-out text is never among them. Sources take turns, so that a limited look sees all of them.
    """
    if isinstance(settings, PairData):
        for pair in _limited(read_pairs(settings, "train", folder), settings.max_pairs):
            yield f"{pair.context} {pair.target}"
        return
    if isinstance(settings, ClassificationData):
        for example in _limited(_read_examples(settings, "train")[0], settings.max_examples):
            yield f"{example.first} {example.second}".rstrip()
        return
    prepared = [source.path for source in settings.sources if is_folder_of_shards(source.path)]
    if prepared:
        raise UserError(
            f"{prepared[0]} holds token ids, not text, so no tokenizer can be trained on it. Give tokenizer.path."
        )
    part: Part = "train" if settings.valid_share else "all"
    streams = [read_source(source, part, settings.valid_share) for source in settings.sources]
    while streams:
        for stream in list(streams):
            document = next(stream, None)
            if document is None:
                streams.remove(stream)
            else:
                yield document.text


def open_tokenizer(
    settings: TokenizerSettings, data: Iterable[Data], folder: Path, *, prepare: bool = True
) -> "PreTrainedTokenizerFast":
    """The tokenizer of a recipe: loaded, or trained on the training text of `data` and kept in `folder`/tokenizer.

    Args:
        settings: an existing one, or a vocabulary size.
        data: the data sets of the recipe; text is preferred to pairs where both are there.
        folder: where a trained one is kept, and found again.
        prepare: train when it is missing; without it, that is an error.

    Raises:
        UserError: it cannot be loaded; the kept one has another vocabulary size.
    """
    listed = list(data)
    end = any(not isinstance(part, ClassificationData) for part in listed)
    if settings.path:
        return load_tokenizer(settings.path, end=end)
    home = folder / "tokenizer"
    if not home.exists():
        if not prepare:
            raise UserError(f"{home} does not exist. Let the first process train the tokenizer.")
        texts = [part for part in listed if isinstance(part, TextData)] or listed
        return train_tokenizer(settings, (text for part in texts for text in training_texts(part, folder)), home)
    tokenizer = load_tokenizer(str(home))
    if len(tokenizer) != settings.vocab_size:
        raise UserError(
            f"{home} has {len(tokenizer)} tokens, but tokenizer.vocab_size is {settings.vocab_size}. "
            "Use another output folder, or delete this one."
        )
    return tokenizer


@dataclass(slots=True)
class _Opener:
    """Opens the shards of one source after another, all with the same tokenizer."""

    tokenizer: "PreTrainedTokenizerFast"
    folder: Path
    context: int
    prepare: bool
    checksum: bool
    progress: Progress | None
    report: dict[str, Any] = field(default_factory=dict)

    def open(self, source: TextSource, part: Part, valid_share: float, role: str = "") -> TokenDataset:
        name = f"{source.name}-{role or ('train' if part == 'all' else part)}"
        if is_folder_of_shards(source.path):
            if valid_share or source.max_megabytes:
                key = "valid_share" if valid_share else "max_megabytes"
                raise UserError(
                    f"{key} has no effect on {source.path}, which is tokenised already. Give it to fallow prepare."
                )
            shards = Shards(Path(source.path), checksum=self.checksum)
            shards.check_tokenizer(self.tokenizer)
        else:
            shards = self._shards(source, part, valid_share, name)
        data = TokenDataset(shards, self.context)
        index = shards.index
        self.report[name] = {
            "documents": index.num_documents,
            "tokens": index.num_tokens,
            "sequences": len(data),
            "bytes": index.num_bytes,
        }
        return data

    def _shards(self, source: TextSource, part: Part, valid_share: float, name: str) -> Shards:
        folder = self.folder / name
        if self.prepare:
            good = refuse_altered(folder, checksum=self.checksum)  # so that nothing is compared twice
            checksum = self.checksum and not good
            prepare_source(source, part, valid_share, self.tokenizer, folder, name, self.progress, checksum=checksum)
        elif not (folder / INDEX).exists():
            raise UserError(f"{folder} does not exist. Let the first process prepare the data.")
        shards = Shards(folder, checksum=False)
        shards.check_tokenizer(self.tokenizer)
        return shards


def _open_pairs(settings: PairData, tokenizer: "PreTrainedTokenizerFast", folder: Path, seed: int) -> Splits:
    report: dict[str, Any] = {}

    def encode(role: Role) -> PairDataset | None:
        pairs: Sequence[Pair] = read_pairs(settings, role, folder)
        if role == "train":
            pairs = _limited(pairs, settings.max_pairs)
        if not pairs:
            return None
        name = f"{settings.format}-{role}"
        data = PairDataset(pairs, tokenizer, settings.context, overflow=settings.overflow, cut=settings.cut, name=name)
        report[name] = {**asdict(data.report), "tokens": data.num_tokens, "contexts": len(data.groups())}
        return data

    train, valid, test = encode("train"), encode("valid"), encode("test")
    if train is None:
        raise UserError(f"{settings.format} gives no pair to train on.")
    held_out: dict[str, Dataset] = {settings.format: valid} if valid else {}
    return Splits(((settings.format, train, 1.0),), held_out, test, report, seed)


def _open_classification(settings: ClassificationData, tokenizer: "PreTrainedTokenizerFast", seed: int) -> Splits:
    report: dict[str, Any] = {}

    def encode(role: str) -> ClassificationDataset | None:
        examples, left_out = _read_examples(settings, role)
        examples = _limited(examples, settings.max_examples if role == "train" else settings.max_valid)
        if not examples:
            return None
        name = f"{settings.task}-{role}"
        task = task_of(settings.task)
        data = ClassificationDataset(examples, tokenizer, settings.context, task, overflow=settings.overflow, name=name)
        report[name] = {**asdict(data.report), "left_out": left_out, "tokens": data.num_tokens}
        return data

    train, valid, mismatched = encode("train"), encode("valid"), encode("mismatched")
    assert train is not None  # the settings ask for a file, and the reader for an example in it
    first = "matched" if settings.task == "mnli" else settings.task
    held_out: dict[str, Dataset] = {first: valid} if valid else {}
    held_out |= {"mismatched": mismatched} if mismatched else {}
    return Splits(((settings.task, train, 1.0),), held_out, encode("test"), report, seed)


def _read_examples(settings: ClassificationData, role: str) -> tuple[Sequence[Example], int]:
    """Examples of all files of a role, and the rows left out in them."""
    found = [read_glue(Path(path), task_of(settings.task)) for path in settings.roles()[role]]
    return [example for examples, _ in found for example in examples], sum(left_out for _, left_out in found)


Item = TypeVar("Item")


def _limited(items: Sequence[Item], num: int) -> Sequence[Item]:
    """`num` items spread evenly; all of them for 0."""
    if not num or num >= len(items):
        return items
    return [items[i * len(items) // num] for i in range(num)]
