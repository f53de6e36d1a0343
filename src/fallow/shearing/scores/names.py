"""Names of scores and of what is cut together; without torch, for settings."""

from typing import Literal, get_args

By = Literal["random", "magnitude", "activation", "wanda", "fluctuation", "taylor"]
BY: tuple[By, ...] = get_args(By)

Depth = Literal["auto", "influence", "loss"]
DEPTH: tuple[Depth, ...] = get_args(Depth)

Sharing = Literal["auto", "within", "whole", "shared"]
"""Which heads one gate stands for under grouped queries; see `fallow.shearing.groups.groups_of`."""
