"""Hugging Face folders, opened so that nothing of theirs is executed: the one place that calls `from_pretrained`.

A model folder can ask its reader for more than to read tensors: for Python files of its own (`auto_map`), for compiled
code from the Hub (`attn_implementation: owner/name`), for a pickle (`pytorch_model.bin`), or for files elsewhere. None
of that is done, and there is no switch for it: what is trained, cut and merged here are layers of transformers, and
every later command and every reader of the result would have to be told to run the same foreign code.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fallow.errors import UserError, first_line
from fallow.files import read_json

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_CODE = ("attn_implementation", "experts_implementation")
_FOREIGN = (
    "{} needs Python code of its author (auto_map in its files), which fallow does not run. Use a model that "
    "transformers has classes for; in Python, fallow.convert takes a model that you have loaded"
)
_ADAPTER = "adapter_config.json"
_AGAIN = "Fetch the model again, or save it again with save_pretrained"
_CONVERT = (
    ". A pickle can run code when it is opened, and fallow does not open it. If you trust it, load it with "
    "transformers and save it again with save_pretrained, which writes safetensors"
)


def read_config(source: str) -> Any:
    """The configuration of a folder or of `owner/name` on the Hub.

    Raises:
        UserError: it would have foreign code run. All that transformers raises goes through.
    """
    from transformers import AutoConfig

    if local := Path(source).is_dir():
        check_values(read_json(Path(source, "config.json"), _AGAIN), source)
    with _no_foreign_code(source):
        config = AutoConfig.from_pretrained(source, trust_remote_code=False, local_files_only=local)
    check_values(config.to_dict(), source)
    return config


def config_from(values: Mapping[str, Any], source: object = "model.config") -> Any:
    """The configuration with these values, `model_type` among them.

    Args:
        values: of a recipe or a file.
        source: where they are from, for messages.

    Raises:
        UserError: it would have foreign code run. All that transformers raises goes through.
    """
    from transformers import AutoConfig

    check_values(values, source)
    plain = dict(values)
    return AutoConfig.for_model(plain.pop("model_type"), **plain)


def new_model(config: Any, cls: Any = None) -> Any:
    """A model with fresh weights: of a class of transformers, or the causal language model of its type."""
    if cls is not None:
        return cls(config)
    from transformers import AutoModelForCausalLM

    with _no_foreign_code(str(config.model_type)):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=False)


def read_model(cls: Any, source: str, **settings: Any) -> tuple[Any, Mapping[str, Any]]:
    """The model of a folder or of `owner/name` on the Hub as `cls`, from safetensors, and what transformers says of it.

    Args:
        cls: a model class of transformers, or one of its Auto classes.
        source: folder or name.
        settings: more for `from_pretrained`.

    Raises:
        UserError: it would have foreign code run, has no safetensors, or weights outside of its folder. All that
            transformers raises goes through.
    """
    if local := Path(source).is_dir():
        check_folder(Path(source))
    else:
        read_config(source)
    with _no_foreign_code(source):
        read: tuple[Any, Mapping[str, Any]] = cls.from_pretrained(
            source,
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=local,
            output_loading_info=True,
            **settings,
        )
    return read


def read_tokenizer(source: str) -> Any:
    """The tokenizer of a folder or of `owner/name` on the Hub.

    Raises:
        UserError: it would have foreign code run. All that transformers raises goes through.
    """
    from transformers import AutoTokenizer

    with _no_foreign_code(source), tokenizing():
        return AutoTokenizer.from_pretrained(source, trust_remote_code=False, local_files_only=Path(source).is_dir())


@contextmanager
def tokenizing() -> Iterator[None]:
    """Tell a panic of the tokenizers library as an error; it is no `Exception`, and would end the process.

    Raises:
        UserError: says what the library says.
    """
    try:
        yield
    except BaseException as error:
        if not is_panic(error):
            raise
        raise UserError(
            f"the tokenizer fails on a text ({first_line(error)}): a rule in its tokenizer.json (regular expressions, "
            "ids) cannot be followed. Use another tokenizer"
        ) from None


def is_panic(error: BaseException) -> bool:
    """Whether a library written in Rust gave up; the class has no name that could be imported."""
    return type(error).__name__ == "PanicException"


def read_generation_config(folder: Path) -> Any:
    """The `generation_config.json` of a folder."""
    from transformers import GenerationConfig

    return GenerationConfig.from_pretrained(str(folder), local_files_only=True)


def check_folder(folder: Path) -> None:
    """Refuse a model folder whose reader would do more than read its own tensors.

    Raises:
        UserError: names what it asks for, and what to do instead.
    """
    check_values(read_json(folder / "config.json", _AGAIN), folder)
    if (folder / _ADAPTER).exists():
        raise UserError(
            f"{folder} has {_ADAPTER} beside a model, so that transformers would change its weights. Move the adapter "
            "to a folder of its own, and put it on its base by fallow import"
        )
    if (folder / SINGLE).is_file():
        return
    if (folder / INDEX).is_file():
        weight_map(folder)
        return
    raise UserError(f"{folder} holds no {SINGLE}{_pickled(folder)}")


def check_values(values: Mapping[str, Any], source: object) -> None:
    """Refuse a configuration that names code or weights elsewhere.

    Raises:
        UserError: names the key and its value.
    """
    for key, value in _leaves(values):
        name = key.rpartition(".")[2].removeprefix("_").removesuffix("_internal")
        if (name in _CODE or any(f"{code}." in key for code in _CODE)) and isinstance(value, str) and "/" in value:
            raise UserError(
                f"{source}: {key} is {value}, compiled code from the Hub, which fallow does not run. Write sdpa or "
                "eager, or leave it out"
            )
    if values.get("auto_map"):
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

        if values.get("model_type") not in CONFIG_MAPPING_NAMES:  # of a known type transformers' own classes are used
            raise UserError(_FOREIGN.format(source))
    if values.get("transformers_weights") is not None:
        raise UserError(
            f"{source}: transformers_weights is {values['transformers_weights']}, but weights are read from {SINGLE} "
            f"or the files of {INDEX} alone. Leave it out"
        )


def weight_map(folder: Path) -> dict[str, Path]:
    """Tensor -> file, as the index of a model in several files says; the files are there, beside the index.

    Raises:
        UserError: it is damaged, or names a file that is not there or lies elsewhere.
    """
    index = folder / INDEX
    listed = read_json(index, _AGAIN).get("weight_map")
    if not isinstance(listed, dict):
        raise UserError(f"{index} is damaged: it has no weight_map. {_AGAIN}")
    for file in sorted({str(file) for file in listed.values()}):
        if file != Path(file).name or not file.endswith(".safetensors"):
            raise UserError(f"{index} names {file}, but only safetensors files beside it are read. {_AGAIN}")
        if not (folder / file).is_file():
            raise UserError(f"{folder / file} is missing, but {INDEX} names it. {_AGAIN}")
    return {name: folder / str(file) for name, file in listed.items()}


def check_stored(model: Any, folder: Path) -> None:
    """Refuse whole numbers where the model has floating-point weights: transformers would take their bits for values.

    Raises:
        UserError: names the file and the weight.
    """
    from safetensors import safe_open

    weights = {name for name, parameter in model.named_parameters() if parameter.is_floating_point()}
    prefix = f"{model.base_model_prefix}."
    if (folder / SINGLE).is_file():
        files = [folder / SINGLE]
    else:
        files = sorted(set(weight_map(folder).values())) if (folder / INDEX).is_file() else []
    for path in files:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                kind = str(file.get_slice(name).get_dtype())
                if not kind.startswith(("F", "BF")) and {name, prefix + name, name.removeprefix(prefix)} & weights:
                    raise UserError(f"{path} is damaged: {name} is stored as {kind}, but it is a weight. {_AGAIN}")


@contextmanager
def _no_foreign_code(source: str) -> Iterator[None]:
    """Tell in one line what transformers will not do without asking."""
    try:
        yield
    except (ValueError, OSError) as error:
        if "trust_remote_code" in str(error):
            raise UserError(_FOREIGN.format(source)) from None
        if "use_safetensors" in str(error):
            raise UserError(f"{source} has no safetensors{_CONVERT}") from None
        raise


def _pickled(folder: Path) -> str:
    found = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    return f": it has pickled weights only, {found[0]}{_CONVERT}" if found else f" and no {INDEX}. {_AGAIN}"


def _leaves(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested mappings with its dotted key."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, values
