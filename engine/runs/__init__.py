"""Runs: the folder of one training, and what other commands read from it."""
