"""`fallow reference`: the losses that a model of another size should reach."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from fallow.cli.json_text import as_json


@dataclass(frozen=True, kw_only=True, slots=True)
class Args:
    """Predict the loss of each domain at another model size, from measured models of one family.

    The file is JSON: {"models": [{"parameters": 6.74e9, "losses": {"web": 1.92, "code": 0.62}}, ...]}, with all
    embeddings counted, losses in nats a token, and "tokens" beside "parameters" where the models saw different
    numbers of them. Three models of equal tokens are fitted exactly, five or more robustly. A recipe
    reads the result by mixture.references.file.

    Examples:
      fallow reference llama2.json --parameters 1.345e9
      fallow reference llama2.json --parameters 1.345e9 --output references.json
      fallow reference family.json --parameters 1e9 --tokens 5e10 --json
    """

    models: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """Sizes and losses of the measured models."""

    parameters: float
    """Size of the model whose losses are asked for."""

    tokens: float = 0.0
    """Tokens it will have seen; for models that saw different numbers only."""

    noise: float = 0.005
    """Standard deviation of the measured losses in nats, for the error bars."""

    output: Path | None = None
    """Write the references to this file."""

    json: bool = False
    """Print JSON."""


def run(args: Args) -> int:
    """Fit every domain, print, write."""
    from fallow.accounting.reference_losses import predict
    from fallow.files import write_json

    found = predict(args.models, num_parameters=args.parameters, num_tokens=args.tokens, noise=args.noise)
    if args.output is not None:
        write_json(args.output, found)
    if args.json:
        print(as_json(found))
        return 0
    print(_text(found))
    if args.output is not None:
        print(f"written to {args.output}; in a recipe: mixture: {{references: {{file: {args.output}}}}}")
    return 0


def _text(found: dict[str, Any]) -> str:
    width = max(len(name) for name in ("domain", *found["references"]))
    lines = [f"{'domain':<{width}}  reference loss  +-      exponent  irreducible"]
    for name, loss in found["references"].items():
        law = found["domains"][name]
        lines.append(
            f"{name:<{width}}  {loss:<14.4f}  {law['deviation']:<6.4f}  {law['exponent']:<8.3f}  {law['constant']:.3f}"
        )
    remarks = [f"- {name}: {text}" for name, law in found["domains"].items() for text in law["remarks"]]
    return "\n".join(lines + remarks)
