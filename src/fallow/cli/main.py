"""`fallow COMMAND ...`: finds the command, and turns what goes wrong into one line and an exit code."""

import contextlib
import importlib
import os
import signal
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from fallow import __version__
from fallow.cli.streams import abandon_output, prepare
from fallow.errors import UserError, plain_text, unknown
from fallow.shortages import ShortageError, shortage_of
from fallow.stock import is_panic

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("fallow.cli.demo", "Pre-train sparse, fine-tune dense, compare: a few minutes on a laptop."),
    "run": ("fallow.cli.run", "Run a recipe, or continue where it stopped."),
    "estimate": ("fallow.cli.estimate", "What a recipe costs, before it is run: operations, memory, disk, time, loss."),
    "bench": ("fallow.cli.bench", "Time layers and training steps on this machine, sparse beside dense."),
    "recipes": ("fallow.cli.recipes", "List, show and copy the shipped recipes; print their schema."),
    "prepare": ("fallow.cli.prepare", "Turn text into checked token shards."),
    "inspect": ("fallow.cli.inspect", "Show packed examples, their boundaries and what the loss is taken on."),
    "import-sltrain": ("fallow.cli.import_released", "Turn a checkpoint of the released SLTrain code into a model."),
    "merge": ("fallow.cli.merge", "Turn a converted model back into a stock Hugging Face one."),
    "export": ("fallow.cli.export_update", "Write the update of a tuned model for PEFT, or as one small file."),
    "import": ("fallow.cli.import_update", "Put a LoRA of PEFT, or an update in a file, on its base."),
    "cut": ("fallow.cli.cut", "Cut a model to a smaller shape, as a stock model of the same kind."),
    "generate": ("fallow.cli.generate", "Continue texts with a trained model."),
    "evaluate": ("fallow.cli.evaluate", "Measure a model: loss, generated texts, classification, benchmark tasks."),
    "score": ("fallow.cli.score", "Score texts against references, as the official scripts do."),
    "judge": ("fallow.cli.judge", "Which of two models answers better, by a judge of yours."),
    "compare": ("fallow.cli.compare", "What changed between two models, matrix by matrix."),
    "report": ("fallow.cli.report", "One page for a run or several: tables, curves, spread over seeds."),
    "tables": ("fallow.cli.tables", "Recompute published tables from our own accounting."),
    "reference": ("fallow.cli.reference", "Predict the losses of another model size, for a mixture that follows them."),
    "doctor": ("fallow.cli.doctor", "Check the installation and the machine."),
}
"""Command -> its module and its line in the help. A new command is one line here."""

_LONGEST = 4_000
"""Characters of a message; of a longer one the middle is left out."""

EXIT_USER = 2
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_PIPE = 141  # what a shell reports for a program that SIGPIPE ended


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and give its exit code.

    0: done. 1: the command ran and says no (a failed check), or a fault of fallow. 2: a mistake in what was asked for,
    or a file or disk that cannot be used, told in one line. 130: interrupted.
    """
    prepare()
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    command = arguments[0] if arguments and not arguments[0].startswith("-") else ""
    try:
        for argument in arguments:
            plain_text(argument, "an argument")
        return _dispatch(command, arguments)
    except ShortageError as error:
        return _fail(command, str(error), EXIT_USER, debug)
    except UserError as error:
        return _fail(command, _of_shortage(error) or str(error), EXIT_USER, debug)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "fallow":
            raise
        return _fail(command, f"package {error.name} is not installed. Try: pip install {error.name}", 1, debug)
    except BrokenPipeError:
        abandon_output()  # the reader left (`fallow recipes show x | head`)
        return EXIT_PIPE
    except OSError as error:
        abandon_output()
        return _fail(command, _of_shortage(error) or _about_files(error), EXIT_USER, debug)
    except KeyboardInterrupt as stop:
        return _fail(command, str(stop) or "interrupted.", EXIT_INTERRUPTED, debug)
    except Exception as error:
        if not (told := _of_shortage(error)):
            raise
        return _fail(command, told, EXIT_USER, debug)
    except BaseException as error:
        if not is_panic(error):
            raise
        return _fail(command, f"a library gave up: {error}.", EXIT_USER, debug)


def _dispatch(command: str, arguments: list[str]) -> int:
    if not command:
        return _top(arguments)
    if command not in COMMANDS:
        raise unknown("command", command, COMMANDS)
    module = importlib.import_module(COMMANDS[command][0])
    if hasattr(module, "main"):
        code = module.main(arguments[1:])
    else:
        from fallow.cli.arguments import parse_args  # with tyro, which `fallow --help` can do without

        code = module.run(parse_args(module.Args, f"fallow {command}", arguments[1:]))
    sys.stdout.flush()  # so that a reader who left is noticed here
    return int(code or 0)


def _top(arguments: list[str]) -> int:
    match arguments:
        case [] | ["-h" | "--help", *_]:
            print(help_text())
        case ["-V" | "--version", *_]:
            print(f"fallow {__version__}")
        case [other, *_]:
            raise UserError(f"{other} is not known here. Write a command first: fallow --help lists them.")
    return 0


def help_text() -> str:
    """What `fallow --help` prints."""
    rows = "\n".join(f"  {name:<14} {text}" for name, (_, text) in COMMANDS.items())
    return textwrap.dedent("""\
        usage: fallow COMMAND ... [--debug]

        Training language models with sparse weights, from the first token to the tuned model.

        Commands:
        {rows}

        fallow COMMAND --help explains one of them. --version, and --debug for tracebacks.

        Examples:
          fallow demo
          fallow recipes list
          fallow run spdf-demo --output runs/demo
          torchrun --nproc-per-node 2 -m fallow run recipe.yaml""").replace("{rows}", rows)


def _of_shortage(error: BaseException) -> str:
    """Whatever else was made of it on the way: where something is used up, that is what is told."""
    found = shortage_of(error)
    if found is None:
        return ""
    place = next((f" ({name})" for name in [getattr(error, "filename", None)] if name), "")
    return f"{found.what}{place}. {found.remedy} and run the same command again; finished files are kept."


def _about_files(error: OSError) -> str:
    return f"{error.filename} cannot be used: {error.strerror}." if error.filename and error.strerror else str(error)


def _fail(command: str, message: str, code: int, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exc()
    process = f" (process {os.environ.get('RANK', '0')})" if os.environ.get("WORLD_SIZE", "1") != "1" else ""
    line = " ".join(message.split())
    line = line if len(line) <= _LONGEST else f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 2 :]}"
    with contextlib.suppress(OSError):  # nobody is there to be told
        print(f"fallow{' ' + command[:80] if command else ''}{process}: {line}", file=sys.stderr)
    return code


def command_module(name: str) -> Any:
    """The module of a command; tests ask for its `Args`."""
    return importlib.import_module(COMMANDS[name][0])
