"""What the methods that adapt a frozen model have in common: which matrices they adapt, and what is trained."""

from collections.abc import Iterable, Mapping

from fallow.errors import UserError
from fallow.linear import Site
from fallow.linear.roles import Role, roles_of

Rows = tuple[tuple[int, int], ...]

HEADS = ("classifier", "score", "qa_outputs")
"""First names of what transformers puts on a pretrained model for a task: new weights, which no method freezes."""

_TERMS = ("low_rank_a", "low_rank_b", "values")


def adapted_rows(sites: Mapping[str, Site], modules: tuple[Role, ...]) -> dict[str, Rows]:
    """The ranges of rows that each layer gets an update for; layers without any are left out.

    Args:
        sites: the target layers.
        modules: roles in attention; empty for every target layer as a whole.

    Raises:
        UserError: no layer plays one of these roles.
    """
    if not modules:
        return {name: ((0, site.shape[0]),) for name, site in sites.items()}
    found: dict[str, Rows] = {}
    for name, site in sites.items():
        roles = roles_of(site)
        if rows := tuple(dict.fromkeys(roles[role] for role in roles if role in modules)):
            found[name] = rows
    if not found:
        endings = sorted({name.rpartition(".")[2] for name in sites})
        raise UserError(
            f"modules is {', '.join(modules)}, but no target layer has the name of such an attention projection. They "
            f"end in: {', '.join(endings)}. Write modules: [] with targets, such as targets: [{endings[0]}], to adapt "
            "whole layers"
        )
    return found


def is_whole(rows: Rows, site: Site) -> bool:
    """Whether one range covers all rows."""
    return rows == ((0, site.shape[0]),)


def trained_terms(names: Iterable[str]) -> set[str]:
    """Factors, entries and the head of a task; of the pretrained model nothing."""
    return {name for name in names if name.rpartition(".")[2] in _TERMS or is_head(name)}


def is_head(name: str) -> bool:
    """Whether a parameter belongs to the head of a task."""
    return name.split(".")[0] in HEADS
