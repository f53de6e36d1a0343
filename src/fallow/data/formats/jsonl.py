"""Pairs in plain JSONL."""

from pathlib import Path

from fallow.data.files import parse_json_lines
from fallow.data.formats.pair import Pair
from fallow.errors import UserError, nearest


def read_jsonl(
    path: Path, context_field: str = "context", target_field: str = "target", references_field: str = "references"
) -> list[Pair]:
    """One pair for each line {"context": ..., "target": ...}, or several for {"context": ..., "references": [...]}.

    Raises:
        UserError: a field is missing or not text.
    """
    pairs = []
    for number, row in parse_json_lines(path):
        context = _text(row, context_field, f"{path}:{number}")
        if target_field in row:
            pairs.append(Pair(context, _text(row, target_field, f"{path}:{number}")))
            continue
        references = row.get(references_field)
        if not isinstance(references, list) or not all(isinstance(text, str) for text in references):
            raise UserError(
                f"{path}:{number} has neither {target_field} (a text) nor {references_field} (a list of texts). "
                f"It has: {', '.join(row)}. Set target_field or references_field."
            )
        pairs += [Pair(context, text) for text in references]
    return pairs


def _text(row: dict[str, object], field: str, where: str) -> str:
    if field not in row:
        close = nearest(field, row)
        hint = f"Did you mean {close}?" if close else f"It has: {', '.join(row)}."
        raise UserError(f"{where} has no field {field}. {hint}")
    text = row[field]
    if not isinstance(text, str):
        raise UserError(f"{where} has {type(text).__name__} in {field}, but text is needed.")
    return text
