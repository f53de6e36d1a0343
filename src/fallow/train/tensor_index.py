"""The index of a checkpoint: which tensors lie where, as JSON, and a reader that can build nothing but tensors.

torch's own index is a pickle, and its loader unpickles whatever that index calls bytes: who writes a checkpoint could
have a resumed run execute code. An index that says four numbers and a file about each piece of a tensor needs no
pickle, so there is none: what is not the description of a tensor cannot be said in it. The pieces themselves stay in
torch's format and are read by its reader for weights alone.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter, _StorageInfo
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadItemType, LoadPlan, LoadPlanner
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

INDEX = "tensors.json"
PICKLED_INDEX = ".metadata"
"""torch's index, as earlier versions of fallow wrote it; never opened."""


class BadIndexError(ValueError):
    """An index that does not describe whole tensors in files of its folder. The text is the reason."""


class IndexWriter(FileSystemWriter):
    """torch's writer of shards, with a JSON index in place of its pickle."""

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Write the index, on the main process, once all shards are there."""
        where = {result.index: result.storage_data for part in results for result in part}
        tensors = {
            name: {
                "dtype": str(entry.properties.dtype).removeprefix("torch."),
                "shape": list(entry.size),
                "pieces": [_piece(chunk, where[MetadataIndex(name, chunk.offsets)]) for chunk in entry.chunks],
            }
            for name, entry in described(metadata).items()
        }
        with Path(self.path, INDEX).open("w", encoding="utf-8") as file:
            json.dump({"tensors": tensors}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())


class TensorReader(FileSystemReader):
    """Reads the tensors of a folder, and nothing else that may lie there.

    Args:
        path: the folder.
        sizes: bytes of each file that its manifest lists.
    """

    def __init__(self, path: Path, sizes: Mapping[str, int]) -> None:
        super().__init__(path)
        self.folder, self.sizes = path, sizes

    def read_metadata(self, *_: Any, **__: Any) -> Metadata:
        """The index.

        Raises:
            BadIndexError: it is damaged, or describes anything but whole tensors in files that the manifest lists.
        """
        try:
            listed = json.loads((self.folder / INDEX).read_text(encoding="utf-8"))["tensors"].items()
            return self._metadata({str(name): dict(entry) for name, entry in listed})
        except BadIndexError:
            raise
        except KeyError as error:
            raise BadIndexError(f"{INDEX} has no {error.args[0]}") from None
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise BadIndexError(f"{INDEX} cannot be read: {error}") from None

    def _metadata(self, listed: Mapping[str, Mapping[str, Any]]) -> Metadata:
        tensors: dict[str, Any] = {}
        storage: dict[MetadataIndex, _StorageInfo] = {}
        for name, entry in listed.items():
            shape, dtype = _numbers(entry["shape"], name), getattr(torch, str(entry["dtype"]), None)
            if not isinstance(dtype, torch.dtype):
                raise BadIndexError(f"{INDEX} gives {name} the type {entry['dtype']}")
            chunks = []
            for piece in entry["pieces"]:
                offsets, sizes = _numbers(piece["offsets"], name), _numbers(piece["sizes"], name)
                chunks.append(ChunkStorageMetadata(torch.Size(offsets), torch.Size(sizes)))
                storage[MetadataIndex(name, offsets)] = self._place(name, piece, math.prod(sizes) * dtype.itemsize)
            _check_whole(name, shape, chunks)
            tensors[name] = TensorStorageMetadata(TensorProperties(dtype=dtype), torch.Size(shape), chunks)
        return Metadata(tensors, storage_data=storage, storage_meta=StorageMeta(load_id=self.load_id))

    def _place(self, name: str, piece: Mapping[str, Any], num_bytes: int) -> _StorageInfo:
        """Where a piece lies: within a file that the manifest lists, and as long as its numbers are at least."""
        file, (offset, length) = piece["file"], _numbers([piece["offset"], piece["length"]], name)
        if file not in self.sizes:
            raise BadIndexError(f"{INDEX} has {name} in {file}, which is no file of the checkpoint")
        if length < num_bytes or offset + length > self.sizes[file]:
            raise BadIndexError(f"{INDEX} has {name} at bytes {offset} to {offset + length} of {file}")
        return _StorageInfo(file, offset, length)

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Copy the pieces that the plan asks for into the tensors of this process."""
        for item in plan.items:
            if item.type != LoadItemType.TENSOR:  # torch would unpickle these; the index cannot say them
                raise BadIndexError(f"{item.dest_index.fqn} is no tensor")
            place: _StorageInfo = self.storage_data[item.storage_index]
            piece = self._piece(place, item.storage_index)
            target = planner.resolve_tensor(item).detach()
            for dim, (start, length) in enumerate(zip(item.storage_offsets, item.lengths, strict=True)):
                piece = piece.narrow(dim, start, length)
            target.copy_(piece)
            planner.commit_tensor(item, target)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def _piece(self, place: _StorageInfo, index: MetadataIndex) -> Tensor:
        problem = BadIndexError(f"{place.relative_path} holds something else than {INDEX} says of {index.fqn}")
        try:
            with (self.folder / place.relative_path).open("rb") as file:
                piece = torch.load(self._slice_file(file, place), map_location="cpu", weights_only=True)
        except OSError:
            raise
        except Exception:  # of which torch's text gives advice that nobody should follow
            raise problem from None
        if type(piece) is not Tensor or (piece.dtype, piece.shape) != self.kinds[index]:
            raise problem
        return piece

    def set_up_storage_reader(self, metadata: Metadata, *args: Any, **kwargs: Any) -> None:
        """Keep what the index says."""
        super().set_up_storage_reader(metadata, *args, **kwargs)
        self.kinds = {
            MetadataIndex(name, chunk.offsets): (entry.properties.dtype, chunk.sizes)
            for name, entry in described(metadata).items()
            for chunk in entry.chunks
        }


def described(metadata: Metadata) -> dict[str, TensorStorageMetadata]:
    """The tensors of an index by name: nothing else can be in one."""
    return {n: entry for n, entry in metadata.state_dict_metadata.items() if isinstance(entry, TensorStorageMetadata)}


def _piece(chunk: ChunkStorageMetadata, place: _StorageInfo) -> dict[str, Any]:
    return {
        "offsets": list(chunk.offsets),
        "sizes": list(chunk.sizes),
        "file": place.relative_path,
        "offset": place.offset,
        "length": place.length,
    }


def _numbers(values: Any, name: str) -> list[int]:
    if not isinstance(values, list) or not all(type(value) is int and 0 <= value < 2**63 for value in values):
        raise BadIndexError(f"{INDEX} has {values} where {name} needs numbers")
    return values


def _check_whole(name: str, shape: list[int], chunks: list[ChunkStorageMetadata]) -> None:
    """Pieces that lie within a tensor, do not overlap and have as many numbers as it has leave no hole."""
    boxes = [[(o, o + n) for o, n in zip(c.offsets, c.sizes, strict=True)] for c in chunks]
    within = all(len(box) == len(shape) and all(e <= n for (_, e), n in zip(box, shape, strict=True)) for box in boxes)
    counted = sum(math.prod(chunk.sizes) for chunk in chunks) == math.prod(shape)
    filled = sorted(box for box in boxes if all(begin < end for begin, end in box))
    apart = all(_apart(one, other) for i, one in enumerate(filled) for other in filled[:i])
    if not (within and counted and apart):
        raise BadIndexError(f"{INDEX} has pieces of {name} that do not make up its shape {tuple(shape)}")


def _apart(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> bool:
    return any(a_end <= b or b_end <= a for (a, a_end), (b, b_end) in zip(one, other, strict=True))
