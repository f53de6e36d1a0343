"""The memory of a training step on one device, by part and at its peak."""

from dataclasses import asdict, dataclass
from typing import Any

from fallow.accounting.activations import Activations, count_activations
from fallow.accounting.sharding import Sharding
from fallow.accounting.sketch import Layer

_PIECE = 1 << 21
"""Elements of the temporary of one piece of the path `factored`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepMemory:
    """Bytes on one device. A part is what it is at its largest; not all of them are alive at one moment."""

    weights: int
    gradients: int
    optimizer: int
    indices: int
    activations: int
    """Kept by autograd from forward to backward, for one micro-batch."""

    gathered: int
    """Whole weights and gradients of other processes' shards; 0 on one process."""

    path: int
    """Temporary matrices of the path of the converted layers, one layer at a time."""

    loss: int
    """Gradients of the logits and of the log-probabilities."""

    block: int
    """Gradients inside a block on their way back."""

    peak: int
    moment: str
    """When it is reached: `loss` (the backward pass begins), `first` or `last` block on the way back, or `end`."""

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        return asdict(self)


def step_memory(sharding: Sharding, *, micro: int, context: int, accumulation: int) -> StepMemory:
    """The memory of one update.

    Gradients and activations trade places: with one micro-batch in an update no gradient exists when the activations
    are complete. With several, those of the ones before are there all the time. So four moments are compared:

        loss:   activations + gradients of the logits (+ gradients of earlier micro-batches)
        first:  activations without the head's + the path's matrices + gradients of the head and of half a block
        last:   half of a block's activations + the path's matrices + gradients of all but the embeddings
        end:    all gradients, and those of the embeddings being added up: twice more where the head shares them

    Not counted: what the allocator and the driver keep for themselves, and the batch.

    Args:
        sharding: model, number of processes, precision and device.
        micro: sequences in a micro-batch.
        context: tokens in a sequence.
        accumulation: micro-batches in an update.
    """
    sketch, tokens = sharding.sketch, micro * context
    kept = _activations(sharding, context)
    shares, gathered = sharding.shares(), sharding.gathered()
    narrow = 2 if sharding.precision == "bf16" else sketch.element_bytes
    path = max((path_bytes(layer, tokens, narrow, layer.path(sketch.path)) for layer in sketch.converted), default=0)
    loss = 8 * sketch.sizes.vocab * tokens
    block = 2 * narrow * sketch.sizes.inner * tokens
    activations, blocks = kept.total(tokens), sketch.sizes.num_blocks
    per_block = round((activations - kept.ends * tokens) / blocks)
    again = accumulation > 1
    grads, head, embeddings, one_block = shares.gradients, *_gradient_parts(sharding)
    tied = sketch.sizes.tied
    work = path + block + gathered.weights + gathered.gradients
    moments = {
        "loss": activations + loss + gathered.weights + (grads if again else 0),
        "first": activations - round(kept.ends * tokens) + work + (grads if again else head + one_block // 2),
        "last": (per_block - one_block) // 2 + work + (grads if again or tied else grads - embeddings),
        "end": grads + embeddings * ((2 if tied else 0) + (1 if again else 0)) + gathered.weights + gathered.gradients,
    }
    moment = max(moments, key=lambda name: moments[name])
    return StepMemory(
        weights=shares.weights,
        gradients=shares.gradients,
        optimizer=shares.optimizer,
        indices=shares.indices,
        activations=activations,
        gathered=gathered.weights + gathered.gradients,
        path=path,
        loss=loss,
        block=block,
        peak=shares.weights + shares.optimizer + shares.indices + moments[moment],
        moment=moment,
    )


def largest_micro(sharding: Sharding, *, limit: int, context: int, sequences: int) -> int:
    """The largest micro-batch that fits into `limit` bytes and divides this process's share of the batch; 0 for none.

    Args:
        sharding: model, number of processes, precision and device.
        limit: bytes of the device.
        context: tokens in a sequence.
        sequences: sequences in an update, over all processes.
    """
    share = sequences // sharding.processes
    for micro in sorted((n for n in range(1, share + 1) if share % n == 0), reverse=True):
        memory = step_memory(sharding, micro=micro, context=context, accumulation=share // micro)
        if memory.peak <= limit:
            return micro
    return 0


def path_bytes(layer: Layer, tokens: int, narrow: int, path: str) -> int:
    """Temporary bytes of one converted layer while it computes.

    `materialise` holds the matrix twice while it is built (scatter makes a new one), beside the 64-bit positions of its
    entries; while positions are computed there are three such lists. In backward the matrix gives way to its gradient.

    `factored` holds pieces of entries x tokens, three at a time, beside the transposed input and output.

    `update` holds entries x tokens twice and rank x tokens, and under bf16 a narrow copy of the base.

    Args:
        layer: a converted layer.
        tokens: of a micro-batch.
        narrow: bytes of a number in products.
        path: how it is computed.
    """
    assert layer.terms is not None
    d_out, d_in = layer.site.shape
    entries, matrix = layer.num_entries, narrow * layer.size
    if path == "materialise":
        if layer.terms.sparse is None and layer.terms.low_rank is None:
            return 0
        return max(2 * matrix + (8 + narrow) * entries, matrix + 24 * entries)
    if path == "update" and layer.terms.base is not None:
        low_rank = layer.terms.low_rank
        inner = 0 if low_rank is None else narrow * low_rank.total_rank * (tokens + d_out)
        return inner + entries * (2 * narrow * tokens + 24) + (matrix if narrow < 4 else 0)
    if not entries:
        return 0
    return 12 * min(entries * tokens, _PIECE) + 16 * entries + 4 * tokens * (d_in + 2 * d_out)


def _gradient_parts(sharding: Sharding) -> tuple[int, int, int]:
    """Bytes of the gradients of the head (a tied one has the embedding's), of the word embedding, and of one block."""
    sketch = sharding.sketch
    word = next(tensor for tensor in sketch.tensors if tensor.part == "embeddings")
    inside = sum(sharding.local(t) for t in sketch.tensors if t.block is not None and t.trainable)
    head = sum(sharding.local(t) for t in sketch.tensors if t.part == "head" and t.trainable)
    size, embedding = sketch.element_bytes, sharding.local(word)
    return size * (embedding if sketch.sizes.tied else head), size * embedding, size * inside // sketch.sizes.num_blocks


def _activations(sharding: Sharding, context: int) -> Activations:
    return count_activations(
        sharding.sketch,
        precision=sharding.precision,
        device=sharding.device,
        context=context,
        gathered=sharding.is_mixed,
    )
