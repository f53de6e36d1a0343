"""Compiled CPU kernels for the sparse term: their C++ sources, how they are built, loaded and called.

`build` compiles the sources into one library (at installation, or by `python -m fallow.linear.kernels`),
`library` loads it, `structure` derives from a support what the kernels walk along, `operators` registers them with
torch. Where there is no library, everything works without it; `library.missing()` says why there is none.
"""
