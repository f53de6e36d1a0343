"""What `--json` prints: JSON that every reader takes, which has no word for NaN and infinity."""

import json
import math
from typing import Any


def as_json(value: Any, *, indent: int = 2, ensure_ascii: bool = True) -> str:
    r"""A value as JSON; a number that is not finite becomes null.

    >>> as_json({"loss": 2.5, "perplexity": float("inf")}, indent=0)
    '{\n"loss": 2.5,\n"perplexity": null\n}'
    """
    return json.dumps(_finite(value), indent=indent, ensure_ascii=ensure_ascii, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return value
