"""Rank against density, beside full rank (the paper's Tables 2, 6 and 7)."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fallow.run.recipe import load
from studies.study import RECIPE, Outcome, Setting, perplexity_text, spread, text


def study(setting: Setting, jobs: int = 1) -> Outcome:
    """Every arm of the recipe with every seed."""
    with ThreadPoolExecutor(jobs) as pool:
        found = list(pool.map(lambda seed: setting.run(seed, setting.folder(seed)), setting.seeds))
    results = [_arm(stage, found) for stage in load(RECIPE).stages]
    full = next(r for r in results if r["method"] == "dense")
    for arm in results:
        low = next((r for r in results if r["rank"] == arm["rank"] and not r["density"]), None)
        if low is None or arm["method"] == "dense":
            continue
        gaps = zip(low["losses"], arm["losses"], full["losses"], strict=True)
        arm["recovered"] = spread([(worst - here) / (worst - best) for worst, here, best in gaps])
    rows = [
        [
            arm["label"],
            f"{arm['rate']:g} ({arm['rate'] * arm['embedding_scale']:g})",
            f"{arm['stored'] / 1e6:.3f}",
            text(spread(arm["losses"])),
            perplexity_text(arm["losses"]),
            f"{text({k: 100 * v for k, v in arm['recovered'].items()}, 0)}" if arm["density"] else "",
        ]
        for arm in results
    ]
    return Outcome(
        results,
        ["arm", "rate (embeddings)", "stored parameters (M)", "valid. loss (nats)", "perplexity", "gap closed (%)"],
        rows,
        "Gap closed: of the difference between full rank and low rank of the same r, seed by seed.",
    )


def _arm(stage: Any, runs: list[dict[str, Any]]) -> dict[str, Any]:
    records = [run["stages"][stage.name] for run in runs]
    return {
        "stage": stage.name,
        "label": stage.label,
        "method": stage.method.name,
        "rank": getattr(stage.method, "rank", 0),
        "density": getattr(stage.method, "density", 0.0),
        "rate": stage.optimizer.lr,
        "embedding_scale": stage.optimizer.embedding_scale,
        "stored": records[0]["training"]["counts"]["stored"],
        "losses": [record["scores"]["loss"] for record in records],
        "seconds": [record["training"]["seconds"] for record in records],
    }
