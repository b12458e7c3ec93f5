"""Comparison: methods scored on the same cases with the same noise."""
