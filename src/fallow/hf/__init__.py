"""Bridges to the Hugging Face world."""
