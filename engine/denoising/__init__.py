"""Denoising: applies a trained network to scans and writes the results."""
