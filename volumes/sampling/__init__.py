"""Sampling: the crops, noise and priors that make a training example."""
