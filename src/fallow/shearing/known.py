"""Shapes by name: what a target can be `like`."""

from fallow.shearing.shape import Shape


def _shape(layers: int, hidden: int, heads: int, head_size: int, inner: int, kv_heads: int = 0) -> Shape:
    return Shape(
        layers=layers, hidden=hidden, heads=heads, kv_heads=kv_heads or heads, head_size=head_size, inner=inner
    )


KNOWN: dict[str, Shape] = {
    "sheared-llama-2.7b": _shape(32, 2560, 20, 128, 6912),
    "sheared-llama-1.3b": _shape(24, 2048, 16, 128, 5504),
    "sheared-llama-370m": _shape(24, 1024, 8, 128, 2816),
    "llama-3.2-3b": _shape(28, 3072, 24, 128, 8192, kv_heads=8),
    "pythia-70m": _shape(6, 512, 8, 64, 2048),
    "pythia-160m": _shape(12, 768, 12, 64, 3072),
    "pythia-410m": _shape(24, 1024, 16, 64, 4096),
    "pythia-1.4b": _shape(24, 2048, 16, 128, 8192),
    "pythia-2.8b": _shape(32, 2560, 32, 80, 10240),
}
"""The targets of Sheared-LLaMA (arXiv 2310.06694), the Pythia models, and a target for Llama 3.1 8B."""
