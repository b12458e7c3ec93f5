"""Checkpoints: every variable of a training on disk, verified."""
