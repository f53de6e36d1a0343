"""The memory of a training step on one device, by part and at its peak."""

from dataclasses import asdict, dataclass
from typing import Any

from fallow.accounting.activations import Activations, count_activations
from fallow.accounting.sharding import Sharding
from fallow.linear.paths.structures import LEAN_PATHS
from fallow.linear.planner import scratch_bytes, structure_bytes, uses_kernels
from fallow.linear.reparam import ReparamLinear

_PIECE = 1 << 21
"""Elements of the temporary of one piece of the path `factored`."""

_UPDATE_PIECE, _UPDATE_NUMBERS = 1 << 18, 8
"""Entries of a parameter that `Adam` updates at once, and the fp32 numbers that it holds for each of them."""


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
    """Gradients inside a block on their way back, and with recomputing the activations of one block."""

    update: int
    """What the optimizer needs for a moment beside its states: pieces in fp32, and a whole matrix with a projection."""

    peak: int
    moment: str
    """When it is reached: `loss` (the backward pass begins), `first` or `last` block on the way back, `end`, or
    `update`."""

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        return asdict(self)


def step_memory(sharding: Sharding, *, micro: int, context: int, accumulation: int) -> StepMemory:
    """The memory of one update.

    Gradients and activations trade places: with one micro-batch in an update no gradient exists when the activations
    are complete. With several, those of the ones before are there all the time. So five moments are compared:

        loss:   activations + gradients of the logits (+ gradients of earlier micro-batches)
        first:  activations without the head's + the path's matrices + gradients of the head and of half a block
        last:   half of a block's activations + the path's matrices + gradients of all but the embeddings
        end:    all gradients, and those of the embeddings being added up: twice more where the head shares them
        update: all gradients + what the optimizer needs for a moment

    With updates per layer and one micro-batch, the gradients at `first` and `last` are those of the largest matrix, and
    of a head that shares the embedding's; at `end` those of the embedding. What the optimizer needs comes on top there.
    With recomputing, activations are the inputs of the blocks, and at `first` and `last` a whole block's come on top.

    Not counted: what the allocator and the driver keep for themselves, and the batch.

    Args:
        sharding: model, number of processes, precision, device, and how it trains.
        micro: sequences in a micro-batch.
        context: tokens in a sequence.
        accumulation: micro-batches in an update.
    """
    planned, tokens, manner = sharding.planned, micro * context, sharding.manner
    kept = _activations(sharding, context)
    shares, gathered = sharding.shares(), sharding.gathered(accumulation)
    narrow = 2 if sharding.precision == "bf16" else planned.element_bytes
    path = max((path_bytes(layer, tokens, narrow, planned.device) for layer in planned.converted), default=0)
    loss = 8 * planned.sizes.vocab * tokens
    block = 2 * narrow * planned.sizes.inner * tokens
    activations, blocks = kept.total(tokens), planned.sizes.num_blocks
    per_block = round((activations - kept.ends * tokens) / blocks)
    ends = round(kept.ends * tokens)
    whole = gathered.weights + gathered.gradients + gathered.accumulated
    work = path + block + whole
    update = update_bytes(sharding)
    if manner.activations == "recompute":
        activations = ends + kept.inputs(tokens)
        block, work = block + per_block, work + per_block
    grads = _gradients(sharding, again=accumulation > 1)
    inside = update if manner.update == "per_layer" else 0
    last = activations - ends if manner.activations == "recompute" else per_block
    moments = {
        "loss": activations + loss + gathered.weights + gathered.accumulated + grads.earlier,
        "first": activations - ends + work + grads.first + inside,
        "last": last // (blocks if manner.activations == "recompute" else 2) + work + grads.last + inside,
        "end": grads.end + whole + inside,
        "update": 0 if inside else shares.gradients + update,
    }
    moment = max(moments, key=lambda name: moments[name])
    return StepMemory(
        weights=shares.weights,
        gradients=grads.held,
        optimizer=shares.optimizer,
        indices=shares.indices,
        activations=activations,
        gathered=whole,
        path=path,
        loss=loss,
        block=block,
        update=update,
        peak=shares.weights + shares.optimizer + shares.indices + moments[moment],
        moment=moment,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Gradients:
    """Bytes of gradients that are alive at the moments of `step_memory`."""

    earlier: int
    first: int
    last: int
    end: int
    held: int
    """The most that wait for an update, sums in the making not counted."""


def _gradients(sharding: Sharding, *, again: bool) -> _Gradients:
    """Of all parameters, or with updates per layer of those that are not updated yet."""
    grads, head, embeddings, one_block = sharding.shares().gradients, *_gradient_parts(sharding)
    tied = sharding.planned.sizes.tied
    if again:  # those of the micro-batches before are all there
        end = grads + embeddings * (3 if tied else 1)
        return _Gradients(earlier=grads, first=grads, last=grads - one_block // 2, end=end, held=grads)
    if sharding.manner.update == "per_layer":
        size, inside = sharding.planned.element_bytes, [t for t in sharding.planned.tensors if t.block is not None]
        largest = size * max((sharding.local(t) for t in inside if t.trainable), default=0)
        inside_blocks = largest + (head if tied else 0)  # a shared head waits for the embedding's part
        end = embeddings * (3 if tied else 1)
        return _Gradients(
            earlier=0, first=inside_blocks, last=inside_blocks, end=end, held=max(inside_blocks, embeddings)
        )
    return _Gradients(
        earlier=0,
        first=head + one_block // 2,
        last=(grads if tied else grads - embeddings) - one_block // 2,
        end=grads + embeddings * (2 if tied else 0),
        held=grads,
    )


def update_bytes(sharding: Sharding) -> int:
    """Temporary bytes of the optimizer for the parameter that needs most.

    torch's AdamW needs none. `Adam` works on pieces of 2^18 entries, of which it holds gradient, moments, direction and
    new weight in fp32, with codes and random numbers beside them. A projected matrix has its update in fp32, whole;
    when its subspace is renewed, a copy and all singular vectors instead.
    """
    states = sharding.manner.states
    if not (states.width or states.block):
        return 0
    found = 0
    for tensor in sharding.planned.tensors:
        if not tensor.trainable:
            continue
        piece = _UPDATE_NUMBERS * 4 * min(sharding.local(tensor), _UPDATE_PIECE)
        if tensor.name in states.projected:
            short, long = sorted(tensor.shape)
            piece += 4 * (tensor.numel + short * (short + long))
        found = max(found, piece)
    return found


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


def path_bytes(layer: ReparamLinear, tokens: int, narrow: int, device: str) -> int:
    """Temporary bytes of one converted layer while it computes.

    `materialise` holds the matrix twice while it is built (scatter makes a new one), beside the 64-bit positions of its
    entries; while positions are computed there are three such lists. In backward the matrix gives way to its gradient.

    `fused` holds W and then its gradient, each once, and that of the entries; `block` the last of these alone;
    `semi_structured` W, its transpose, and that in compressed form.

    `sparse` and `factored` hold what the compiled kernels work in, and under bf16 the input, its gradient and that of
    the output in fp32; with factors also what they give. Without kernels `factored` holds pieces of entries x tokens,
    three at a time, beside the transposed input and output, and `sparse` is `materialise`.

    `update` holds entries x tokens twice and rank x tokens, and under bf16 a narrow copy of the base.

    Args:
        layer: a converted layer.
        tokens: of a micro-batch.
        narrow: bytes of a number in products.
        device: type of the device that computes it.
    """
    terms, shape, path = layer.terms, layer.site.shape, layer.path
    d_out, d_in = shape
    entries = 0 if terms.sparse is None else terms.sparse.num_entries(d_in)
    matrix, low_rank = narrow * d_out * d_in, terms.low_rank
    if uses_kernels(terms, path, device):
        factors = 0 if low_rank is None else narrow * tokens * (low_rank.total_rank + d_out)
        wide = 0 if narrow >= 4 else 4 * tokens * (2 * d_in + d_out)
        made = 2 * structure_bytes(terms, shape) if path in LEAN_PATHS else 0  # while it is copied, twice
        return scratch_bytes(terms, shape, tokens) + made + factors + wide
    if path == "fused":
        return matrix + 4 * entries
    if path == "block":
        beside = 0 if low_rank is None else narrow * tokens * (low_rank.total_rank + d_out)
        return 4 * entries + beside
    if path == "semi_structured":
        return 2 * matrix + matrix // 2 + matrix // 16 + 4 * entries
    if path in ("materialise", "sparse"):
        if terms.sparse is None and terms.low_rank is None:
            return 0
        return max(2 * matrix + (8 + narrow) * entries, matrix + 24 * entries)
    if path == "update" and terms.base is not None:
        inner = 0 if low_rank is None else narrow * low_rank.total_rank * (tokens + d_out)
        return inner + entries * (2 * narrow * tokens + 24) + (matrix if narrow < 4 else 0)
    if not entries:
        return 0
    return 12 * min(entries * tokens, _PIECE) + 16 * entries + 4 * tokens * (d_in + 2 * d_out)


def _gradient_parts(sharding: Sharding) -> tuple[int, int, int]:
    """Bytes of the gradients of the head (a tied one has the embedding's), of the word embedding, and of one block."""
    planned = sharding.planned
    word = next((tensor for tensor in planned.tensors if tensor.group == "embeddings"), None)
    inside = sum(sharding.local(t) for t in planned.tensors if t.block is not None and t.trainable)
    head = sum(sharding.local(t) for t in planned.tensors if t.group == "head" and t.trainable)
    embedding, sizes, size = 0 if word is None else sharding.local(word), planned.sizes, planned.element_bytes
    return size * (embedding if sizes.tied else head), size * embedding, size * inside // sizes.num_blocks


def _activations(sharding: Sharding, context: int) -> Activations:
    return count_activations(
        sharding.planned,
        precision=sharding.precision,
        device=sharding.device,
        context=context,
        gathered=sharding.is_mixed,
    )
