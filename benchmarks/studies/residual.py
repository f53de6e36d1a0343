"""Random against top support with the low-rank part fixed (the paper's Table 1)."""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor

import fallow
from fallow.conversion import match_targets
from fallow.data.splits import open_data, open_tokenizer
from fallow.evaluate.perplexity import perplexity, pooled
from fallow.linear import Base, Chosen, Site, Terms, linear_sites
from fallow.linear.starts import Zeros
from fallow.methods import Method
from fallow.random import Key, sample_without_replacement
from fallow.run.stage import ModelSource, Stage
from fallow.supports import Support
from fallow.supports.choices import largest
from fallow.train.settings import Duration
from studies.study import Outcome, Setting, perplexity_text, spread, text

RANK, DENSITY = 16, 0.03
RATES = (2e-3, 8e-3, 3.2e-2)
TOKENS = 200_000


@dataclass(frozen=True, kw_only=True, slots=True)
class SparseOnLowRank(Method):
    """A frozen base and sparse values on a support, which alone are trained; they begin at zero.

    A method of this study, as anybody can write one: it stands in no registry.
    """

    name: ClassVar[str] = "sparse-on-low-rank"
    chooses: ClassVar[bool] = True

    support: Literal["random", "top"]
    full: str
    """Folder of the full-rank model: where its weights differ most from rank `RANK` is the top support."""

    def plan(self, sites: Mapping[str, Site], key: Key) -> dict[str, Terms]:
        """The same number of entries in both cases."""
        weights = load_file(str(Path(self.full) / "model.safetensors"))
        plan = {}
        for name, site in sites.items():
            positions = positions_of(weights[f"{name}.weight"], self.support, key.child(name))
            support = Support.from_flat(site.shape, positions.numpy())
            sparse = Chosen(
                choice="magnitude",
                entries=support.nnz,
                rank=RANK,
                key=key.child(name),
                rows=((0, site.shape[0]),),
                start=Zeros(),
                given=support,
            )
            plan[name] = Terms(base=Base(trainable=False), sparse=sparse)
        return plan

    def trained(self, names: Iterable[str]) -> set[str]:
        """The values."""
        return {name for name in names if name.endswith(".values")}


def study(setting: Setting) -> Outcome:
    """For every seed: what low rank leaves of a full-rank model, and what either support can bring back."""
    losses: dict[str, list[float]] = {}
    rates: dict[str, list[float]] = {}
    for seed in setting.seeds:
        for name, loss in _untrained(setting, seed).items():
            losses.setdefault(name, []).append(loss)
        records = setting.train(seed, setting.output / f"residual-{seed}", list(_stages(setting, seed)))
        for support in ("random", "top"):
            tried = {rate: records[name_of(support, rate)]["scores"]["loss"] for rate in RATES}
            best = min(tried, key=tried.__getitem__)
            losses.setdefault(f"trained {support}", []).append(tried[best])
            rates.setdefault(f"trained {support}", []).append(best)
    heads = ["weights", "valid. loss (nats)", "perplexity"]
    titles = {
        "full": "full rank, trained",
        "low": f"its best approximation of rank {RANK}, L0",
        "low + random": "L0 + a random 3% of what is left over",
        "low + top": "L0 + the largest 3% of what is left over",
        "trained random": "L0 fixed, a random 3% trained",
        "trained top": "L0 fixed, the largest 3% trained",
    }
    rows = [[titles[name], text(spread(losses[name])), perplexity_text(losses[name])] for name in titles]
    remark = (
        f"The sparse values begin at zero and alone are trained, for {TOKENS:,} tokens, with the best of the rates "
        f"{', '.join(f'{rate:g}' for rate in RATES)}."
    )
    return Outcome({"losses": losses, "rates": rates}, heads, rows, remark)


def positions_of(weight: Tensor, support: str, key: Key) -> Tensor:
    """The 3% of a matrix that are kept: the largest of what low rank leaves over, or any."""
    num = round(DENSITY * weight.numel())
    if support == "random":
        return torch.from_numpy(sample_without_replacement(key.child("random"), weight.numel(), num))
    return largest((weight - approximation(weight)).abs(), num)


def approximation(weight: Tensor) -> Tensor:
    """The nearest matrix of rank `RANK`."""
    u, s, vh = torch.linalg.svd(weight.double(), full_matrices=False)
    return ((u[:, :RANK] * s[:RANK]) @ vh[:RANK]).to(weight)


def _stages(setting: Setting, seed: int) -> Iterable[Stage]:
    full, low = setting.folder(seed) / "full-rank/model", setting.output / f"residual-{seed}-low"
    plain = setting.recipe(seed, low).stages[0]
    for support, rate in itertools.product(("random", "top"), RATES):
        yield replace(
            plain,
            name=name_of(support, rate),
            label="",
            model=ModelSource(path=str(low)),
            method=SparseOnLowRank(support=support, full=str(full)),
            budget=Duration(tokens=TOKENS),
            optimizer=replace(plain.optimizer, lr=rate, embedding_scale=1.0),  # embeddings are frozen
            schedule=replace(plain.schedule, warmup=Duration(tokens=TOKENS // 20)),
        )


def name_of(support: str, rate: float) -> str:
    """Of the stage that trains this."""
    return f"{support}-{rate:g}".replace(".", "_")


def _untrained(setting: Setting, seed: int) -> dict[str, float]:
    """Losses of the full-rank model and of what is left of it; writes the folder of L0."""
    folder = setting.folder(seed)
    recipe = setting.recipe(seed, folder)
    tokenizer = open_tokenizer(recipe.tokenizer, [recipe.dataset("text")], folder)
    held_out = open_data(recipe.dataset("text"), tokenizer, folder / "data", seed).valid
    model: Any = fallow.load(folder / "full-rank/model")
    sites = match_targets(model, linear_sites(model), ())
    weights = {f"{name}.weight": model.get_parameter(f"{name}.weight").detach().clone() for name in sites}
    low = {name: approximation(weight) for name, weight in weights.items()}

    def loss(values: Mapping[str, Tensor]) -> float:
        with torch.no_grad():
            for name, value in values.items():
                model.get_parameter(name).copy_(value)
        return float(pooled([perplexity(model, data, batch_size=32) for data in held_out.values()])["loss"])

    found = {"full": loss(weights)}
    for support in ("random", "top"):
        kept = {}
        for name, weight in weights.items():
            positions = positions_of(weight, support, Key(seed, "untrained").child(name))
            kept[name] = low[name].clone()
            kept[name].view(-1)[positions] = weight.view(-1)[positions]
        found[f"low + {support}"] = loss(kept)
    found["low"] = loss(low)
    model.save_pretrained(setting.output / f"residual-{seed}-low")
    return found
