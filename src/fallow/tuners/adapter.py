"""A stock folder of PEFT with what was trained beside a model."""

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fallow.files import fill_folder
from fallow.tuners.extra import peft
from fallow.tuners.prefix import prefix_of
from fallow.tuners.scales import ADAPTER

_WEIGHTS = "adapter_model.safetensors"


@torch.no_grad()
def save_adapter(model: nn.Module, folder: Path, heads: set[str]) -> None:
    """Write what `PeftModel.from_pretrained` loads on the base, in PEFT's own form.

    Of a prefix that came from a network only its keys and values are written: the network has done its work.

    Args:
        model: with a prefix or with IA3.
        folder: made when it is not there.
        heads: names of the parameters of a task's head, which are written along.
    """
    from safetensors.torch import save_file

    library, stock = peft(), model
    parameters = dict(model.named_parameters())
    prefix = prefix_of(model)
    if prefix is not None:
        config, wrapper = copy.copy(prefix.config), "base_model."
        virtual = torch.arange(prefix.length, device=next(prefix.parameters()).device)
        tensors: dict[str, Tensor] = {"prompt_embeddings": prefix.encoder(virtual[None])[0]}
        config.prefix_projection = False
    else:
        wrapped: Any = stock
        config, wrapper = copy.copy(wrapped.peft_config[ADAPTER]), "base_model.model."
        found = library.get_peft_model_state_dict(wrapped, adapter_name=ADAPTER)
        tensors = {f"{wrapper}{name}": tensor for name, tensor in found.items()}
    tensors |= {f"{wrapper}{name}": parameters[name] for name in heads}
    config.modules_to_save = sorted({name.split(".")[0] for name in heads}) or None
    config.base_model_name_or_path = getattr(model, "name_or_path", "") or None
    config.inference_mode = True
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with fill_folder(folder, last=("adapter_config.json",)) as temporary:
        save_file(whole, temporary / _WEIGHTS, metadata={"format": "pt"})
        config.save_pretrained(str(temporary))
