"""Inference: a network and its prior applied to a whole volume."""
