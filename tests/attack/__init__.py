"""A hard attack on fallow: bad inputs, altered files, kills, power losses, owners, security. `make attack` runs all.

How to add to it. A generator of bad inputs is a function of this kind, named in `inputs.GENERATORS`:

    def inputs(seed: int) -> Iterator[Input]:      # deterministic; endless or not; `cases.Input` is one command

Each command runs in a folder of its own, which holds a copy of `bench.shared` (a tiny model with its tokenizer, text,
pairs and a recipe; `bench.py` lists the names) and the files of the case. Any other attack is a function that gives
`cases.Task`s, each worked on in a process of its own; `__main__.AREAS` names them.
"""
