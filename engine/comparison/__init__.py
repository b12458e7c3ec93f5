"""Comparison: methods side by side on the same cases with the same noise."""
