"""Settings that hold for all tests."""

import os

import torch
from hypothesis import settings

# The same examples every time, and no time limit for one: a busy machine must not turn a test red.
settings.register_profile("house", deadline=None, derandomize=True)
settings.load_profile("house")

# Java takes many seconds to start METEOR, which is not what most tests of scores are about.
os.environ["JAVA_HOME"] = os.devnull

# Without a GPU the kernels in Triton are interpreted, which has to be said before anything imports Triton.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
