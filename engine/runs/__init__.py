"""Runs: the folder of one training, and what other commands take from it."""
