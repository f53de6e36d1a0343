"""What to read and how: the data part of a recipe."""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import PurePath
from typing import Annotated, Literal

from fallow.config import Natural, Within, check_bounds
from fallow.errors import UserError, unknown

EMBEDDED = ("embedded:stdlib", "embedded:reference")
FORMATS = ("e2e", "webnlg", "dart", "curation", "jsonl", "embedded")
TASK_NAMES = ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte")


@dataclass(frozen=True, kw_only=True, slots=True)
class TextSource:
    """One source of plain text.

    >>> TextSource(path="corpus/wikipedia.jsonl.gz").name
    'wikipedia'
    """

    path: str
    """A file (.txt, .txt.gz, .jsonl, .jsonl.gz, .json.gz, .parquet), a folder of such files, a folder made by `fallow
    prepare`, `embedded:stdlib` or `embedded:reference` (the Python installation itself; `embedded:stdlib/asyncio` takes
    one package), or `hub:owner/name`, also `hub:owner/name/config:split`."""

    weight: float = 1.0
    """Share of samples drawn from this source, relative to the other weights and whatever its size."""

    domain: str = ""
    """Name of the source in logs and validation; by default taken from the path."""

    field: str = "text"
    """The field or column that holds the text, for JSONL, Parquet and Hub sources."""

    max_megabytes: float = 0.0
    """Take documents spread evenly over the source until about this much text (1 MB = 1,000,000 bytes). 0 takes all."""

    def __post_init__(self) -> None:
        if not self.path:
            raise UserError("source.path is empty. Write a file, a folder, embedded:stdlib or hub:owner/name.")
        if self.path.startswith("embedded:") and "/".join(self.path.split("/")[:1]) not in EMBEDDED:
            raise unknown("embedded corpus", self.path, EMBEDDED)
        if self.path.startswith("embedded:reference/"):
            raise UserError(f"{self.path} has no parts. Write embedded:reference.")
        if self.path.startswith("hub:") and not re.fullmatch(r"hub:[^/:]+/[^/:]+(/[^/:]+)?(:[^/:]+)?", self.path):
            raise UserError(
                f"source.path is {self.path}, but a Hub source is hub:owner/name or hub:owner/name/config:split."
            )
        if not 0 < self.weight < float("inf"):
            raise UserError(
                f"source.weight of {self.path} is {self.weight}, but it must be above 0. Remove the source to drop it."
            )
        if not 0 <= self.max_megabytes < float("inf"):
            raise UserError(
                f"source.max_megabytes of {self.path} is {self.max_megabytes}, but it must be at least 0 (0 takes all)."
            )
        if not self.field:
            raise UserError(f"source.field of {self.path} is empty. Write the field that holds the text, usually text.")

    @property
    def name(self) -> str:
        """The domain, else a name made from the path; letters, digits, dot, dash and underscore only."""
        if self.domain:
            plain = self.domain
        elif self.path.startswith("hub:"):
            plain = self.path.removeprefix("hub:").partition(":")[0].split("/", 1)[1]
        elif self.path.startswith("embedded:"):
            plain = self.path.removeprefix("embedded:")
        else:
            plain = re.sub(r"(\.(txt|jsonl|json|parquet))?(\.gz)?$", "", PurePath(self.path).name)
        return re.sub(r"[^A-Za-z0-9_.-]+", "-", plain).strip("-.") or "text"


@dataclass(frozen=True, kw_only=True, slots=True)
class TextData:
    """Plain text for language modelling: documents are joined by the end token and cut into sequences of one length."""

    kind: Literal["text"] = "text"
    """Always `text`."""

    sources: tuple[TextSource, ...]
    """What to train on."""

    context: Annotated[int, Within(2, 10_000_000)]
    """Length of a sequence in tokens. Longer sees further and costs more memory for each sequence."""

    valid: tuple[TextSource, ...] = ()
    """Text to validate on. Leave it out when `valid_share` is given."""

    valid_share: float = 0.0
    """Share of the documents of every source that is held out to validate on. Chosen by the name of the module
    (embedded) or by the text itself (others), so that it never changes and copies of a document stay on one side."""

    def __post_init__(self) -> None:
        if not self.sources:
            raise UserError("sources is empty. Name at least one, for example path: embedded:stdlib.")
        check_bounds(self)
        if not 0 <= self.valid_share < 1:
            raise UserError(f"valid_share is {self.valid_share}, but it must be at least 0 and below 1. 0.05 is usual.")
        if self.valid and self.valid_share:
            raise UserError("valid_share has no effect when valid names its own sources. Remove one of the two.")
        for group in (self.sources, self.valid):
            names = [source.name for source in group]
            double = sorted(name for name, times in Counter(names).items() if times > 1)
            if double:
                raise UserError(f"two sources are named {double[0]}. Give each one a different domain.")


@dataclass(frozen=True, kw_only=True, slots=True)
class PairData:
    """Pairs of a context and a target, for fine-tuning: the loss is taken on the target and its end token only."""

    kind: Literal["pairs"] = "pairs"
    """Always `pairs`."""

    format: Literal["e2e", "webnlg", "dart", "curation", "jsonl", "embedded"]
    """How the files are written. `embedded` makes (function, first paragraph of its docstring) pairs of the Python
    installation and needs no file."""

    train: str = ""
    """File to train on; for webnlg also the folder or .tar.gz of the original release."""

    valid: str = ""
    """File to validate on."""

    test: str = ""
    """File to generate for; rows with the same context become one item with several references."""

    context: Annotated[int, Within(2, 10_000_000)]
    """Largest length of a sequence in tokens: context, separator, target and end token."""

    overflow: Literal["error", "cut", "drop"] = "error"
    """What to do with a pair that is longer than `context`: stop, cut its context, or leave the pair out. A target is
    never cut; `cut` leaves out the pairs whose target alone is too long. The report counts both."""

    cut: Literal["end", "start"] = "end"
    """Which part of the context `overflow: cut` removes."""

    subset: Literal["all", "seen", "unseen"] = "all"
    """WebNLG only: the test entries of all categories, of the ten seen in training, or of the others."""

    context_field: str = "context"
    """JSONL only: the field of the context."""

    target_field: str = "target"
    """JSONL only: the field of the target."""

    references_field: str = "references"
    """JSONL only: a list of targets, used where the target field is absent."""

    template: str = ""
    """Text that each context is put into, at {context}: a system prompt, marks of turns. What a tuned model is asked
    later must be written so, too. Empty: the context alone."""

    max_pairs: Natural = 0
    """Take at most this many training pairs, spread evenly over the file. 0 takes all."""

    def __post_init__(self) -> None:
        for key, options in (
            ("format", FORMATS),
            ("overflow", ("error", "cut", "drop")),
            ("cut", ("end", "start")),
            ("subset", ("all", "seen", "unseen")),
        ):
            if getattr(self, key) not in options:
                raise unknown(key, str(getattr(self, key)), options)
        check_bounds(self)
        if self.format == "embedded":
            for key in ("train", "valid", "test"):
                if getattr(self, key):
                    raise UserError(f"{key} has no effect with format embedded, which needs no file. Remove it.")
        elif not self.train:
            raise UserError(f"train is empty, but format {self.format} reads a file. Write train: FILE.")
        if self.format != "webnlg" and self.subset != "all":
            raise UserError(
                f"subset has no effect with format {self.format}; only webnlg has seen categories. Remove it."
            )
        defaults = {"context_field": "context", "target_field": "target", "references_field": "references"}
        for key, value in defaults.items():
            if self.format != "jsonl" and getattr(self, key) != value:
                raise UserError(f"{key} has no effect with format {self.format}. Remove it, or write format: jsonl.")
        if self.template and self.template.count("{context}") != 1:
            raise UserError(
                f"template holds {{context}} {self.template.count('{context}')} times, but it needs it once, where the "
                "context goes. Write it there, or remove template."
            )
        if self.template and self.overflow == "cut":
            raise UserError("overflow: cut would cut the template, too. Write overflow: drop, or remove template.")
        if self.overflow != "cut" and self.cut != "end":
            raise UserError(f"cut has no effect with overflow {self.overflow}. Remove it, or write overflow: cut.")


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassificationData:
    """Texts with one label each: a task of GLUE from its published files. The model gets a head for the task.

    >>> ClassificationData(task="rte", train=("train.tsv",), valid=("dev.tsv",), context=128).roles()
    {'train': ('train.tsv',), 'valid': ('dev.tsv',), 'mismatched': (), 'test': ()}
    """

    kind: Literal["classification"] = "classification"
    """Always `classification`."""

    task: Literal["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte"]
    """Which task of GLUE: it says how files are written, what the labels are, the loss and the metrics."""

    train: tuple[str, ...]
    """Files to train on (.tsv or .tsv.gz), read one after another."""

    valid: tuple[str, ...] = ()
    """Files to validate on, read one after another: for CoLA the in-domain and the out-of-domain development sets are
    GLUE's one. For MNLI the matched set."""

    mismatched: tuple[str, ...] = ()
    """MNLI only: the mismatched set to validate on, reported beside the matched one."""

    test: tuple[str, ...] = ()
    """Files with labels to judge the finished model on. GLUE keeps the labels of its own test sets; without this, the
    validation files are taken."""

    context: Annotated[int, Within(2, 10_000_000)]
    """Largest length of a sequence in tokens, marks included. 128 is usual."""

    overflow: Literal["error", "cut", "drop"] = "error"
    """What to do with an example that is longer than `context`: stop, cut the end of the longer text as GLUE's scripts
    do, or leave the example out. The report counts both."""

    max_examples: Natural = 0
    """Take at most this many training examples, spread evenly over the files. 0 takes all."""

    max_valid: Natural = 0
    """Look at no more than this many examples of each held-out set, spread evenly. 0 takes all, as GLUE does."""

    def __post_init__(self) -> None:
        if self.task not in TASK_NAMES:
            raise unknown("task", str(self.task), TASK_NAMES)
        if self.overflow not in ("error", "cut", "drop"):
            raise unknown("overflow", str(self.overflow), ("error", "cut", "drop"))
        check_bounds(self)
        if not self.train:
            raise UserError("train is empty, but a task needs a file to train on. Write train: [FILE].")
        if self.task != "mnli" and self.mismatched:
            raise UserError(f"mismatched has no effect with task {self.task}; only mnli has two sets. Remove it.")
        for role, files in self.roles().items():
            if "" in files:
                raise UserError(f"{role} holds an empty name, but it must hold files. Remove it.")

    def roles(self) -> dict[str, tuple[str, ...]]:
        """The files by what they are for."""
        return {role: getattr(self, role) for role in ("train", "valid", "mismatched", "test")}


Data = TextData | PairData | ClassificationData


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerSettings:
    """Which tokenizer: an existing one, or a new byte-level BPE trained on the training text. Exactly one is given."""

    path: str = ""
    """A Hugging Face tokenizer folder, or a name on the Hub."""

    vocab_size: int = 0
    """Train a byte-level BPE with this many tokens. Small models want small ones: 4,096 at a few million weights."""

    def __post_init__(self) -> None:
        if bool(self.path) == bool(self.vocab_size):
            given = "both are given" if self.path else "neither is given"
            raise UserError(f"tokenizer needs path or vocab_size, but {given}. Write one of the two.")
        # 256 bytes and the special tokens have to fit.
        if not self.path and not 260 <= self.vocab_size <= 1_000_000:
            raise UserError(
                f"tokenizer.vocab_size is {self.vocab_size}, but it must be 260 to 1000000 (256 bytes + specials)."
            )
