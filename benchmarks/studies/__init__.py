"""Studies of the SLTrain paper at a small scale, one a file; `benchmarks/sltrain.py` runs them."""
