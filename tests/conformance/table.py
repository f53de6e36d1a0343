"""The table of methods: every row passes the battery in `test_methods.py`, and most that in `test_training.py`."""

from dataclasses import dataclass, field
from importlib.util import find_spec


@dataclass(frozen=True)
class Row:
    """A method with settings, as `fallow.convert` takes them."""

    method: str
    settings: dict[str, object] = field(default_factory=dict)
    density: float = 1.0
    """Share of the entries of a target weight that can differ from zero."""
    trains: bool = True
    """Whether `test_training.py` has it too; it is dear, and a row whose terms another row trains can be left out."""

    queries_and_values: bool = False
    """Whether these two alone are converted, instead of every layer of the blocks."""

    merges: bool = True
    """Whether what is trained can become part of the weights."""

    rate: float = 1e-3
    """Learning rate at which 20 steps make the loss smaller, and at which rounding does not grow."""


ROWS = {
    "dense": Row("dense"),
    "sparse": Row("sparse", {"sparsity": 0.75}, 0.25),
    "sparse supar": Row("sparse", {"sparsity": 0.5, "parametrization": "supar"}, 0.5),
    "sparse erk": Row("sparse", {"sparsity": 0.75, "distribution": "erk"}, 0.25),
    "sparse vector": Row("sparse", {"sparsity": 0.75, "support": "vector:4"}, 0.25),
    "sparse block": Row("sparse", {"sparsity": 0.75, "support": "block:8"}, 0.25),
    "sparse 2:4": Row("sparse", {"sparsity": 0.5, "support": "2:4"}, 0.5),
    "sparse transposable": Row("sparse", {"sparsity": 0.5, "support": "transposable"}, 0.5, trains=False),
    "lora": Row("lora", {"rank": 2, "alpha": 4.0}, queries_and_values=True, rate=1e-2),
    "dsee": Row("dsee", {"rank": 2, "alpha": 4.0, "entries": 5}, queries_and_values=True, rate=1e-2),
    "dsee unscaled": Row(
        "dsee",
        {"rank": 2, "alpha": 4.0, "entries": 5, "scaled": "factors", "support": "random"},
        queries_and_values=True,
        trains=False,
    ),
    "lora everywhere": Row("lora", {"rank": 2, "alpha": 4.0, "modules": ()}, rate=1e-2),
    "lowrank": Row("lowrank", {"rank": 8}, trains=False),
    "sltrain": Row("sltrain", {"rank": 8, "density": 0.1}),
    "sltrain sparse only": Row("sltrain", {"rank": 0, "density": 0.1}, 0.1, trains=False),
    "sltrain on a base": Row("sltrain", {"rank": 4, "density": 0.1, "base": "frozen"}, trains=False),
    "relora": Row("relora", {"rank": 8, "every": 6, "warmup": 2}),
}

SHEARED = {
    "shear": Row(
        "shear",
        {"to": {"hidden": 24, "inner": 96, "layers": 1}, "warmup": 8, "rate": 0.4, "preset": "reachable", "draws": 3},
    ),
}
"""Methods that leave a smaller model: what they have in common with the others is how they train."""

BESIDE = {"peft": Row("peft", {"kind": "prefix", "tokens": 4, "hidden": 16}, merges=False, rate=1e-2)}
"""Methods that train nothing in the weights, where the library that they come from is installed."""

TRAINED = {name: row for name, row in ROWS.items() if row.trains} | SHEARED | (BESIDE if find_spec("peft") else {})
"""Those that are trained on one process and on two, and interrupted."""
