"""Diagnostics: what a file or a run is, whether this machine can be trusted, how fast it is."""
