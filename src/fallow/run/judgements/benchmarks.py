"""What the model knows, asked by benchmark tasks."""

from typing import Any

from fallow.run.finished import Finished


def benchmark_tasks(finished: Finished) -> dict[str, Any]:
    """The results of the tasks that `evaluate.tasks` names; nothing when it names none."""
    tasks = finished.stage.evaluate.tasks
    if not tasks:
        return {}
    from fallow.evaluate.harness import evaluate_tasks

    finished.say(f"  asking {', '.join(asked.name for asked in tasks.asked())}")
    batch_size = finished.stage.batch.micro
    return {"benchmarks": evaluate_tasks(finished.model, finished.tokenizer, tasks, batch_size=batch_size)}
