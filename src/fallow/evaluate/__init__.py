"""Perplexity, generation and scores of language models."""
