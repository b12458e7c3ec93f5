"""Simulation: clean scans in, the same scans as a worse scanner would have made them out."""
