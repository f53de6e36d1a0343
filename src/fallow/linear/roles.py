"""What the linear layers of attention are for: queries, keys, values, output; by the names that families give them."""

from typing import Literal

from fallow.linear.inputs import Site

Role = Literal["q", "k", "v", "o"]

_ENDINGS: dict[str, Role] = {
    "q_proj": "q", "k_proj": "k", "v_proj": "v", "o_proj": "o", "out_proj": "o",
    "self.query": "q", "self.key": "k", "self.value": "v", "attention.output.dense": "o",
    "q_lin": "q", "k_lin": "k", "v_lin": "v", "out_lin": "o",
    "attn.c_proj": "o", "attention.dense": "o",
}  # fmt: skip
_FUSED = "query_key_value"
_BESIDE = (
    {"q_proj", "k_proj", "v_proj"},
    {"query", "key", "value"},
    {"q_lin", "k_lin", "v_lin"},
    {"gate_proj", "up_proj"},
)


def roles_of(site: Site) -> dict[Role, tuple[int, int]]:
    """Rows of each role in a layer, (first, one after the last); empty for a layer that is no part of attention.

    GPT-NeoX interleaves queries, keys and values head by head: its `query_key_value` is all three as a whole.

    >>> roles_of(Site("h.0.attn.c_attn", (12, 4), (4, 4, 4), True))
    {'q': (0, 4), 'k': (4, 8), 'v': (8, 12)}
    >>> roles_of(Site("layers.0.self_attn.v_proj", (4, 8), (4,), False))
    {'v': (0, 4)}
    """
    d_out = site.shape[0]
    if len(site.parts) == 3:
        third = d_out // 3
        return {"q": (0, third), "k": (third, 2 * third), "v": (2 * third, d_out)}
    if site.name.rpartition(".")[2] == _FUSED:
        return {"q": (0, d_out), "k": (0, d_out), "v": (0, d_out)}
    for ending, role in _ENDINGS.items():
        if f".{site.name}".endswith(f".{ending}"):
            return {role: (0, d_out)}
    return {}


def is_beside(name: str, other: str) -> bool:
    """Whether two layers read the same input: queries, keys and values of a block, or the two halves of a gated MLP."""
    (parent, _, ending), (place, _, last) = name.rpartition("."), other.rpartition(".")
    return parent == place and any({ending, last} <= group for group in _BESIDE)
