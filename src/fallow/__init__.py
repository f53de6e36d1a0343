"""fallow: training language models with sparse weights, from the first token to the tuned model."""

__version__ = "0.1.0"
