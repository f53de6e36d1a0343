"""Loss and perplexity on what was held out."""

from typing import Any

from fallow.evaluate.perplexity import perplexity, pooled_loss
from fallow.run.finished import Finished


def held_out_loss(finished: Finished) -> dict[str, Any]:
    """The loss on each held-out set, and over all their tokens. For pairs it is taken on the targets."""
    if not finished.held_out:
        return {}
    finished.say(f"  evaluating on {', '.join(finished.held_out)}")
    parts = {
        name: perplexity(finished.model, data, batch_size=finished.stage.batch.micro)
        for name, data in finished.held_out.items()
    }
    loss, num_tokens = pooled_loss(parts.values())
    return {"split": finished.split, "loss": loss, "num_tokens": num_tokens, "parts": parts}
