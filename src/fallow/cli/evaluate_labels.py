"""What `fallow evaluate` measures of labelled texts."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fallow.cli.evaluate import Args
from fallow.data import ClassificationDataset
from fallow.data.formats.glue import read_glue
from fallow.data.task import task_of
from fallow.evaluate.classification import answers_of, classify
from fallow.evaluate.evaluation import Evaluation
from fallow.evaluate.progress import shown
from fallow.files import atomic


def measure_labels(
    args: Args, model: Any, tokenizer: Any, context: int, settings: Evaluation, scratch: Path
) -> dict[str, Any]:
    """Loss and metrics of a task; with --answers also what the model says to each text."""
    task = task_of(args.format)
    found = [read_glue(Path(path), task, labelled=not args.answers) for path in args.data]
    examples = [example for part, _ in found for example in part]
    data = ClassificationDataset(examples, tokenizer, context, task, overflow=args.overflow, name=args.format)
    print(f"{len(data):,} texts of {task.name}", file=sys.stderr)
    result: dict[str, Any] = {"task": task.name}
    if all(example.label is not None for example in examples):
        with shown("classifying, batches") as progress:
            scores = classify(model, data, batch_size=args.batch_size, progress=progress)
        result |= {"metrics": list(task.metrics), **scores}
    if args.answers:
        with shown("answering, batches") as progress:
            answers = answers_of(model, data, batch_size=args.batch_size, progress=progress)
        rows = "".join(f"{number}\t{answer}\n" for number, answer in enumerate(answers))
        with atomic(Path(args.answers)) as temporary:
            temporary.write_text(f"index\tprediction\n{rows}", encoding="utf-8")
        result |= {"answers": args.answers, "num_answers": len(answers)}
    left_out = sum(number for _, number in found)
    return {**result, "texts": {**asdict(data.report), "left_out": left_out}}
