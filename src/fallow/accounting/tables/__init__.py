"""Tables of the papers, recomputed from our own accounting: one file a table, found by name."""

import importlib

from fallow.accounting.tables.table import Cell, Table, relative_error
from fallow.errors import unknown

__all__ = ["TABLES", "Cell", "Table", "relative_error", "table"]

TABLES: dict[str, tuple[str, str]] = {
    "spdf-flops": ("spdf_flops", "SPDF: FLOPs of pre-training and fine-tuning, printed and repaired."),
    "sltrain-memory": ("sltrain_memory", "SLTrain and its baselines: parameters and estimated GB, 60M to 7B."),
    "sltrain-measured": ("sltrain_measured", "SLTrain: which bytes make up the measured 67.4 and 18.3 GB at 7B."),
    "shearing-shapes": ("shearing_shapes", "LLM-Shearing: parameters of source models and targets."),
    "shearing-reference-loss": ("shearing_reference_loss", "LLM-Shearing: predicted reference losses, error bars."),
    "shearing-flops": ("shearing_flops", "LLM-Shearing: why pruning is five times slower than training the target."),
    "dsee-parameters": ("dsee_parameters", "DSEE: trainable parameters of its updates."),
    "dsee-head-flops": ("dsee_head_flops", "DSEE: FLOPs left after heads are removed from BERT-base."),
}
"""Name -> the module here and its line in the list. A new table is one file and one line here."""


def table(name: str) -> Table:
    """Recompute a table.

    Raises:
        UserError: there is no such table (names the nearest).
    """
    if name not in TABLES:
        raise unknown("table", name, TABLES)
    found: Table = importlib.import_module(f"fallow.accounting.tables.{TABLES[name][0]}").compute()
    return found
