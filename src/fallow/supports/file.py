"""Chosen supports of many layers in one small file."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch

from fallow.errors import UserError
from fallow.files import atomic
from fallow.supports.support import Support


def save_supports(path: Path, supports: Mapping[str, Support]) -> None:
    """Write positions, shapes and checksums: 4 bytes an entry, and a line a layer.

    Args:
        path: a safetensors file; replaced as a whole or not at all.
        supports: by name of layer.
    """
    from safetensors.torch import save_file

    tensors = {
        name: support.flat().cpu().to(torch.int32 if support.num_positions < 2**31 else torch.int64)
        for name, support in supports.items()
    }
    known = {name: [*support.shape, support.digest()] for name, support in supports.items()}
    with atomic(path) as temporary:
        save_file(tensors, temporary, metadata={"supports": json.dumps(known)})


def load_supports(path: Path) -> dict[str, Support]:
    """Read a file of `save_supports`.

    Raises:
        UserError: it is damaged: entries that do not have the checksum that was stored with them.
    """
    from safetensors import SafetensorError, safe_open

    found = {}
    try:
        with safe_open(path, framework="pt") as file:
            known = json.loads((file.metadata() or {})["supports"])
            for name, (d_out, d_in, digest) in known.items():
                found[name] = Support.from_positions((int(d_out), int(d_in)), file.get_tensor(name))
                if found[name].digest() != digest:
                    raise ValueError(f"the entries of {name} do not have the checksum stored with them")
    except (SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"{path} is damaged: {error}. Delete it, and the supports are chosen again") from error
    return found
