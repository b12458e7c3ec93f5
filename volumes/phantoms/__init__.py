"""Phantoms: synthetic abdominal CT volumes for training and tests."""
