"""Benchmarks of this machine: the training step, and ways to denoise a scan."""
