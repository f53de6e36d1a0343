"""`fallow generate`: continue texts with a trained model."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro

from fallow.cli.json_text import as_json
from fallow.cli.weights import Weights


@dataclass(frozen=True, kw_only=True, slots=True)
class Args:
    """Continue a text, or write the text for a context, with any Hugging Face or fallow model folder.

    A model tuned on pairs (context, target) wants --pairs: the context is followed by the end token, as in training.
    Greedy search unless --num-beams says otherwise; the same command always gives the same text.

    Examples:
      fallow generate runs/demo/dense/model --prompt "def load(path):"
      fallow generate runs/demo/dense-tuned/model --pairs --prompt "def add(a, b): return a + b"
      fallow generate model --prompt-file contexts.txt --num-beams 4 --length-penalty 0.9 --json
      fallow generate tuned --pairs --prompt-file mrs.txt --decoder lora --num-beams 10 --texts out.jsonl
    """

    folder: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Folder of the model, merged or not, with its tokenizer."""

    prompt: Annotated[tuple[str, ...], tyro.conf.arg(metavar="TEXT ...")] = ()
    """Texts to continue."""

    prompt_file: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """A file with one text a line, instead of --prompt."""

    pairs: bool = False
    """The model was tuned on pairs: put the end token after each prompt."""

    num_beams: int = 1
    """Beams; 1 is greedy search."""

    max_new_tokens: int = 64
    """Most tokens to add."""

    length_penalty: float = 1.0
    """With beams: below 1 prefers shorter texts."""

    no_repeat_ngram_size: int = 0
    """No n-gram of this many tokens occurs twice (generate: in prompt and text, lora: in the text); 0 allows all."""

    decoder: Literal["generate", "lora"] = "generate"
    """Whose rules: transformers' generate, or those of the code released with LoRA (see docs/evaluation.md)."""

    batch_size: int = 16
    """Prompts decoded together."""

    texts: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """Write each text to this JSON Lines file as it comes. The same command after an interruption goes on from it."""

    tokenizer: Annotated[str, tyro.conf.arg(metavar="FOLDER")] = ""
    """Tokenizer folder, when the model's folder has none."""

    weights: Weights = "auto"
    """Of an unmerged model: merged in memory, or factors and entries apart. auto takes what is faster a token here, and
    says which."""

    device: Annotated[str, tyro.conf.arg(metavar="DEVICE")] = ""
    """cpu or cuda. By default cuda where there is one."""

    json: bool = False
    """Print a JSON list of prompt and text, and nothing else, on standard output."""


def run(args: Args) -> int:
    """Check, load, generate, print."""
    from pathlib import Path

    from fallow.cli.models import check_folder, open_model
    from fallow.evaluate.decoding import Decoding

    decoding = Decoding(
        num_beams=args.num_beams,
        max_new_tokens=args.max_new_tokens,
        length_penalty=args.length_penalty,
        no_repeat_ngram_size=args.no_repeat_ngram_size,
        batch_size=args.batch_size,
        decoder=args.decoder,
    )
    prompts = _prompts(args)
    check_folder(args.folder)
    model, tokenizer = open_model(args.folder, args.tokenizer, args.device, weights=args.weights)

    from fallow.evaluate.fingerprint import fingerprint
    from fallow.evaluate.generation import generate_texts
    from fallow.evaluate.progress import shown
    from fallow.evaluate.prompts import encode_context, encode_text
    from fallow.evaluate.transcript import Transcript
    from fallow.lock import owned

    def encode(prompt: str) -> Any:
        return encode_context(tokenizer, prompt) if args.pairs else encode_text(tokenizer, prompt)

    made_by = {**fingerprint(model, tokenizer, decoding), "pairs": args.pairs} if args.texts else {}
    path = Path(args.texts) if args.texts else None
    clean = str.strip if args.pairs else str
    with owned(path, is_file=True), shown("generating texts") as progress:
        written = Transcript(path, made_by)
        generated = generate_texts(
            model, tokenizer, prompts, decoding, encode=encode, clean=clean, progress=progress, transcript=written
        )
    if args.json:
        rows = [
            {"prompt": prompt, "text": found.text, "num_tokens": found.num_tokens}
            for prompt, found in zip(prompts, generated, strict=True)
        ]
        print(as_json(rows, ensure_ascii=False))
        return 0
    for prompt, found in zip(prompts, generated, strict=True):
        print(found.text if args.pairs else prompt + found.text)
    return 0


def _prompts(args: Args) -> list[str]:
    from pathlib import Path

    from fallow.errors import UserError

    if bool(args.prompt) == bool(args.prompt_file):
        given = "both are given" if args.prompt else "neither is given"
        raise UserError(f"generate needs --prompt or --prompt-file, but {given}. Write one of the two")
    if args.prompt_file:
        path = Path(args.prompt_file)
        try:
            text = path.read_bytes().decode("utf-8-sig")  # only a line feed ends a prompt
            prompts = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is not UTF-8 text (byte {error.start}). Convert it first") from error
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from error
        if not prompts:
            raise UserError(f"{path} is empty. Write one text a line")
    else:
        prompts = list(args.prompt)
    empty = [number for number, prompt in enumerate(prompts, 1) if not prompt.strip()]
    if empty:
        raise UserError(f"prompt {empty[0]} is empty. Give at least one character")
    return prompts
