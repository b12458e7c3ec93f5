"""Denoising: scans in, the same scans with less noise out."""
