"""Mistral: Llama without biases, with a sliding window."""

from dataclasses import replace

from fallow.shearing.families.llama import INSIDE, LLAMA

MISTRAL = replace(LLAMA, model_type="mistral", inside=INSIDE, whole_heads=False)
