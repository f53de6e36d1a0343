"""`python -m fallow`, which is also what `torchrun -m fallow run recipe.yaml` starts."""

from fallow.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
