"""Recipes: one experiment a file, data in Python."""
