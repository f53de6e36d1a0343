"""`fallow generate`: continue texts with a trained model."""

import json as json_module
from dataclasses import dataclass
from typing import Annotated

import tyro


@dataclass(frozen=True, kw_only=True, slots=True)
class Args:
    """Continue a text, or write the text for a context, with any Hugging Face or fallow model folder.

    A model tuned on pairs (context, target) wants --pairs: the context is followed by the end token, as in training.
    Greedy search unless --num-beams says otherwise; the same command always gives the same text.

    Examples:
      fallow generate runs/demo/dense/model --prompt "def load(path):"
      fallow generate runs/demo/dense-tuned/model --pairs --prompt "def add(a, b): return a + b"
      fallow generate model --prompt-file contexts.txt --num-beams 4 --length-penalty 0.9 --json
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
    """No n-gram of this many tokens occurs twice; 0 allows all."""

    batch_size: int = 16
    """Prompts decoded together."""

    tokenizer: Annotated[str, tyro.conf.arg(metavar="FOLDER")] = ""
    """Tokenizer folder, when the model's folder has none."""

    device: Annotated[str, tyro.conf.arg(metavar="DEVICE")] = ""
    """cpu or cuda. By default cuda where there is one."""

    json: bool = False
    """Print a JSON list of prompt and text, and nothing else, on standard output."""


def run(args: Args) -> int:
    """Check, load, generate, print."""
    from fallow.cli.models import check_folder, open_model
    from fallow.evaluate.decoding import Decoding

    decoding = Decoding(
        num_beams=args.num_beams,
        max_new_tokens=args.max_new_tokens,
        length_penalty=args.length_penalty,
        no_repeat_ngram_size=args.no_repeat_ngram_size,
        batch_size=args.batch_size,
    )
    prompts = _prompts(args)
    check_folder(args.folder)
    model, tokenizer = open_model(args.folder, args.tokenizer, args.device)

    from fallow.evaluate.generation import encode_context, end_token, generate_tokens

    encoded = [encode_context(tokenizer, p) if args.pairs else list(tokenizer(p)["input_ids"]) for p in prompts]
    generated = generate_tokens(model, encoded, decoding, eos=end_token(tokenizer))
    texts = [str(tokenizer.decode(ids, skip_special_tokens=True)) for ids in generated]
    if args.json:
        rows = [
            {"prompt": p, "text": t, "num_tokens": len(g)} for p, t, g in zip(prompts, texts, generated, strict=True)
        ]
        print(json_module.dumps(rows, indent=2, ensure_ascii=False))
        return 0
    for prompt, text in zip(prompts, texts, strict=True):
        print(text.strip() if args.pairs else prompt + text)
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
            prompts = path.read_text(encoding="utf-8").splitlines()
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
