"""Shapes against zeros: a trained source pruned by gates to a shape, by gates to a number of parameters (CoFi), and by
single weights (magnitude, Wanda, SparseGPT), each trained on with as many tokens (Tables 4 and 16 of Sheared LLaMA).

    python benchmarks/pruned_quality.py --root DATA --source runs/shear-stories/source/model --output runs/pruned
    python benchmarks/pruned_quality.py ... --seeds 0 1 2 --prune 200 --continue 75 --update docs/shearing.md
    python benchmarks/pruned_quality.py ... --arms targeted cofi      some of the arms

Data, target and settings of the updates are those of shear-stories, with fixed shares. What is pruned at once has the
tokens of the gates' training afterwards, so that all arms see as many; zeros stay zeros. An arm that is finished below
--output is taken as it is, one that was broken off goes on. Generation is not measured on this small a model: it is the
newest record of benchmarks/sheared_speed.py, for the same kinds of shapes; with zeros it is the source's.
"""

import argparse
import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from record import RECORDS, write_record
from seeds import update
from shearing import with_steps
from torch import Tensor, nn
from transformers.utils.logging import disable_progress_bar

import fallow
from fallow.data.splits import Splits, open_data, open_tokenizer
from fallow.evaluate.perplexity import perplexity
from fallow.folder import load as load_model
from fallow.linear.inputs import dense_weight
from fallow.methods import Method, method_of
from fallow.pruning import Sparsify, sparsify
from fallow.run.recipe import Recipe, load
from fallow.run.stage import Stage
from fallow.shearing.counter import Counter
from fallow.shearing.target import shape_for
from fallow.train import Loop, Mesh, Validation
from fallow.train.callbacks import Console

MARK = "pruned-quality"


@dataclass(frozen=True)
class Arm:
    """One way to prune."""

    label: str
    shape: str
    """The row of benchmarks/sheared_speed.py that generates like it."""

    by: str = ""
    """For single weights: their score."""

    pattern: str = ""
    same_size: bool = False
    """As many weights as the target shape has, instead of half of them."""


SCORES = {"magnitude": "magnitude", "wanda": "Wanda", "sparsegpt": "SparseGPT"}
ZEROS = "source"
ARMS = {
    "targeted": Arm("gates, to a shape", "targeted"),
    "cofi": Arm("gates, to a number of parameters (CoFi)", "uneven"),
    **{f"{by}-size": Arm(f"{name}, to that number", ZEROS, by, same_size=True) for by, name in SCORES.items()},
    **{f"{by}-half": Arm(f"{name}, half of the weights", ZEROS, by) for by, name in SCORES.items()},
    **{f"{by}-2:4": Arm(f"{name}, 2:4", ZEROS, by, "2:4") for by, name in SCORES.items()},
}


def main() -> None:
    """Prune and train what is missing, summarise, record, update."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True)
    parser.add_argument("--source", required=True, help="model folder of the recipe's stage source")
    parser.add_argument("--output", required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--prune", type=int, default=200, help="updates of the gates, 8 sequences each")
    parser.add_argument("--continue", dest="go_on", type=int, default=75, help="updates after it, 32 sequences each")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--update", nargs="*", default=[], help="documents whose table is replaced")
    args = parser.parse_args()
    disable_progress_bar()  # a bar for every arm says nothing
    recipe = load("shear-stories", [("root", args.root), ("tokenizer.path", args.source)])
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ("source", *args.arms)}
    for seed in args.seeds:
        study = Study.of(args, recipe, seed)
        for name in found:
            found[name].append(study.result(name))
    facts = {"tokens": (args.prune + 4 * args.go_on) * 8 * 128, "prune": args.prune, "continue": args.go_on}
    path = write_record(MARK, [facts, found], notes="shear-stories, fixed shares, one source for all seeds")
    text = f"{table(found)}\n\n{caption(args, facts, path)}"
    print(text)
    for document in args.update:
        update(Path(document), MARK, text)


@dataclass(frozen=True)
class Study:
    """The arms of one seed."""

    folder: Path
    source: str
    recipe: Recipe
    splits: Splits
    seed: int
    num_prune: int
    num_after: int

    @classmethod
    def of(cls, args: argparse.Namespace, recipe: Recipe, seed: int) -> "Study":
        """Open the data, tokenised once for all seeds."""
        output, data = Path(args.output), recipe.dataset("text")
        tokenizer = open_tokenizer(recipe.tokenizer, [data], output)
        splits = open_data(data, tokenizer, output / "data", seed)
        return cls(output / f"seed-{seed}", args.source, recipe, splits, seed, args.prune, args.go_on)

    def result(self, name: str) -> dict[str, Any]:
        """What an arm came to; read where it is finished."""
        folder = self.folder / name.replace(":", "-")
        path = folder / "result.json"
        asked = {"prune": self.num_prune, "continue": self.num_after, "source": Path(self.source).name}
        if path.is_file():
            kept: dict[str, Any] = json.loads(path.read_text())
            if {key: kept[key] for key in asked} != asked:
                raise SystemExit(f"{path} was made with other budgets. Use another --output.")
            return kept
        model: Any = load_model(self.source).float()
        before, size = None, sum(p.numel() for p in model.parameters())
        if name != "source":
            arm = ARMS[name]
            steps = self.num_after if arm.by == "" else (self.num_prune + 4 * self.num_after) // 4
            model, size = self.zeros(model, arm) if arm.by else self.gates(model, name, folder / "gates")
            before = self.losses(model)
            zeros = hold_zeros(model)
            self.train(model, method_of("dense"), "continue-fixed", steps, folder / "after")
            assert all(not dense_weight(m)[zero].any() for m, zero in zeros), "zeros have come back"
        folder.mkdir(parents=True, exist_ok=True)
        result = {**asked, "parameters": size, "before": before, "after": self.losses(model)}
        path.write_text(json.dumps(result, indent=1) + "\n")
        return result

    def gates(self, model: Any, name: str, folder: Path) -> tuple[Any, int]:
        """Train gates, and merge; the parameters that are left."""
        given: Any = self.recipe.stage("prune-fixed").method
        method: Method = replace(given, warmup=self.num_prune // 4)
        if name == "cofi":
            method = method_of("cofi", parameters=self.target_size(model), warmup=self.num_prune // 4)
        fallow.convert(model, method, seed=self.seed)
        self.train(model, method, "prune-fixed", self.num_prune, folder)
        told = method.summary(model)
        merged: Any = fallow.merge(model)
        parameters = sum(p.numel() for p in merged.parameters())
        return merged, told["parameters"]["realised"] if "parameters" in told else parameters

    def zeros(self, model: Any, arm: Arm) -> tuple[Any, int]:
        """Prune single weights at once, by text of the training set; the parameters that are left."""
        parameters = sum(p.numel() for p in model.parameters())
        inside = sum(m.weight.numel() for m in model.model.layers.modules() if isinstance(m, nn.Linear))
        sparsity = (parameters - self.target_size(model)) / inside if arm.same_size else 0.5
        batch = self.splits.mixture(64).next_batches(1)[0]
        examples = list(zip(batch.input_ids.split(8), batch.labels.split(8), strict=True))
        gone = sparsify(model, Sparsify(by=arm.by, sparsity=sparsity, pattern=arm.pattern), examples)  # type: ignore[arg-type]
        return model, parameters - round(sum(model.get_submodule(k).weight.numel() * s for k, s in gone.items()))

    def target_size(self, model: Any) -> int:
        """Parameters of the recipe's target."""
        given: Any = self.recipe.stage("prune-fixed").method
        counter = Counter.of(model, model.config)
        return counter.total(shape_for(given.to, model.config, lambda: counter))

    def train(self, model: nn.Module, method: Method, like: str, steps: int, folder: Path) -> None:
        """Train in place, as a stage of the recipe does."""
        stage: Stage = with_steps(replace(self.recipe.stage(like), validation=Validation(), seed=self.seed), steps)
        mixture = self.splits.mixture(stage.batch.sequences)
        title = f"seed {self.seed}, {folder.parent.name}, {folder.name}"
        Loop(model, method, mixture, stage.loop_settings("fp32"), Mesh(), folder, [Console(title)]).fit()

    def losses(self, model: nn.Module) -> dict[str, float]:
        """Held-out loss by domain."""
        return {name: perplexity(model, data, batch_size=32)["loss"] for name, data in self.splits.valid.items()}


def hold_zeros(model: Any) -> list[tuple[nn.Module, Tensor]]:
    """Zeros of the blocks' linear layers get no gradient, so that Adam without decay leaves them; where they are."""
    found: list[tuple[nn.Module, Tensor]] = []
    for module in model.model.layers.modules():
        if isinstance(module, nn.Linear):
            zero = module.weight.detach() == 0
            module.weight.register_hook(without(zero))
            found.append((module, zero))
    return found


def without(zero: Tensor) -> Callable[[Tensor], Tensor]:
    """Takes the gradient away there."""
    return lambda gradient: gradient.masked_fill(zero, 0.0)


def speeds() -> dict[str, float]:
    """Tokens a second that shapes generate, over those of the source, from the newest record."""
    newest = max(RECORDS.glob("*-sheared-speed.json"))
    rows = {row["model"]: row["generation"] for row in json.loads(newest.read_text())["results"]}
    return {name: rate / rows["source"] for name, rate in rows.items()}


def table(found: dict[str, list[dict[str, Any]]]) -> str:
    """Markdown."""
    speed = speeds()
    lines = ["| pruned by | parameters left | perplexity as pruned | perplexity trained on | generation |",
             "| --- | ---: | ---: | ---: | ---: |"]  # fmt: skip
    for name, results in found.items():
        label, shape = (ARMS[name].label, ARMS[name].shape) if name in ARMS else ("the source", "source")
        left = statistics.fmean(result["parameters"] for result in results)
        cells = [spread([result[key] for result in results]) for key in ("before", "after")]
        lines.append(f"| {label} | {left:,.0f} | {' | '.join(cells)} | {speed[shape]:.2f}x |")
    return "\n".join(lines)


def spread(losses: Sequence[dict[str, float] | None]) -> str:
    """Perplexity by the mean loss over domains: its mean, and with several seeds the standard deviation."""
    found = [math.exp(statistics.fmean(by_domain.values())) for by_domain in losses if by_domain]
    if not found:
        return ""
    off = f" +- {statistics.stdev(found):.2f}" if len(found) > 1 else ""
    return f"{statistics.fmean(found):.2f}{off}"


def caption(args: argparse.Namespace, facts: dict[str, Any], path: Path) -> str:
    """What the table is, and how to get it again."""
    listed = " ".join(map(str, args.seeds))
    over = "Mean +- standard deviation over seeds." if len(args.seeds) > 1 else f"Seed {args.seeds[0]} alone."
    return (
        f"{facts['tokens']:,} tokens for each row: {args.prune} updates of gates and {args.go_on} after it, or all of "
        f"them after pruning at once; zeros stay zeros. {over} Generation is that of the kind of shape in the table "
        f"above; zeros save a stock model nothing. Again: `python benchmarks/pruned_quality.py --root DATA "
        f"--source FOLDER --output runs/pruned --seeds {listed} --prune {args.prune} --continue {args.go_on}`; record: "
        f"`benchmarks/records/{path.name}`."
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
