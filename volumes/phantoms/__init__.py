"""Phantoms: synthetic abdomens to train and test on."""
