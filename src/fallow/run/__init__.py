"""Recipes and how they are run, stage by stage."""
