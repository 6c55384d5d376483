"""Recipes: one file a data set, its settings, and the command that repeats its published score."""
