"""Sampling: crops, noise and priors: what one training example is made of."""
