"""What `fallow evaluate` measures by benchmark tasks."""

from pathlib import Path
from typing import Any

from fallow.cli.evaluate import Args
from fallow.evaluate.evaluation import Evaluation
from fallow.evaluate.harness import evaluate_tasks


def measure_tasks(
    args: Args, model: Any, tokenizer: Any, context: int, settings: Evaluation, scratch: Path
) -> dict[str, Any]:
    """The results of lm-eval, under the key that stages use."""
    return {"benchmarks": evaluate_tasks(model, tokenizer, settings.tasks, batch_size=args.batch_size)}
