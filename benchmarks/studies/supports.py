"""Five random supports (the paper's Fig. 4): the same seed, another draw."""

from fallow.run.recipe import load
from studies.study import RECIPE, Outcome, Setting, spread, text

ARM = "sltrain-16-03"
DRAWS = range(5)


def study(setting: Setting) -> Outcome:
    """One arm with five supports, and the same arm with other seeds beside it."""
    seed = setting.seeds[0]
    folders = [setting.folder(seed), *(setting.output / f"draw-{draw}" for draw in DRAWS[1:])]
    draws = []
    for draw, folder in zip(DRAWS, folders, strict=True):
        flags = ["--only", ARM, *(["--stages." + ARM + ".method.draw", str(draw)] if draw else [])]
        draws.append(setting.run(seed, folder, *flags)["stages"][ARM]["scores"]["loss"])
    seeds = [setting.run(s, setting.folder(s), "--only", ARM)["stages"][ARM]["scores"]["loss"] for s in setting.seeds]
    label = next(stage.label for stage in load(RECIPE).stages if stage.name == ARM)
    rows = [
        [f"five supports, seed {seed}", text(spread(draws), 4), ", ".join(f"{loss:.4f}" for loss in draws)],
        [
            f"seeds {', '.join(map(str, setting.seeds))}, each with its support",
            text(spread(seeds), 4),
            ", ".join(f"{loss:.4f}" for loss in seeds),
        ],
    ]
    return Outcome({"arm": ARM, "draws": draws, "seeds": seeds}, [label, "valid. loss (nats)", "each"], rows, "")
