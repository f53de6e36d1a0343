"""A tensor and this process's part of it, for parameters that may be shared out over processes (DTensor)."""

from torch import Tensor


def whole(tensor: Tensor) -> Tensor:
    """The tensor in one piece on every process; itself where it is not shared out."""
    full: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return full


def local(tensor: Tensor) -> Tensor:
    """This process's part, as a plain tensor that shares its memory."""
    part: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return part


def share_of(like: Tensor, full: Tensor) -> Tensor:
    """`full` in the type and on the device of `like`, shared out in the same way; no communication.

    Args:
        like: a plain tensor or a DTensor.
        full: the same values on every process.
    """
    full = full.to(device=like.device, dtype=like.dtype)
    if not hasattr(like, "full_tensor"):
        return full
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    return distribute_tensor(full, like.device_mesh, like.placements, src_data_rank=None)
