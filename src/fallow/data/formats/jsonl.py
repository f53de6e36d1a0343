"""Pairs in plain JSONL."""

from pathlib import Path

from fallow.data.formats.pair import Pair
from fallow.data.json_lines import parse_json_lines, text_in
from fallow.errors import UserError


def read_jsonl(
    path: Path, context_field: str = "context", target_field: str = "target", references_field: str = "references"
) -> list[Pair]:
    """One pair for each line {"context": ..., "target": ...}, or several for {"context": ..., "references": [...]}.

    An empty text is taken as it stands: no answer may be the right one.

    Raises:
        UserError: a field is missing or not text; target and references in one line; no reference.
    """
    pairs = []
    for number, row in parse_json_lines(path):
        context = text_in(row, context_field, path, number)
        if target_field in row and references_field in row:
            raise UserError(
                f"{path}:{number} has both {target_field} and {references_field}, and one of them would go unread. "
                "Remove it, or set target_field or references_field to the name of another field."
            )
        if target_field in row:
            pairs.append(Pair(context, text_in(row, target_field, path, number)))
            continue
        references = row.get(references_field)
        if type(references) is not list or not all(type(text) is str for text in references):
            raise UserError(
                f"{path}:{number} has neither {target_field} (a text) nor {references_field} (a list of texts). "
                f"It has: {', '.join(row)[:200]}. Set target_field or references_field."
            )
        if not references:
            raise UserError(
                f"{path}:{number} has an empty list in {references_field}, but a pair needs a text. Remove the line."
            )
        pairs += [Pair(context, text) for text in references]
    return pairs
