"""Checkpoints: all variables of a training on disk, with checksums."""
