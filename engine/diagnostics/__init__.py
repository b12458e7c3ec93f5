"""Diagnostics: info on files and runs, checks and benchmarks of this machine, a demo."""
