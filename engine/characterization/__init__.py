"""Characterization: noise, resolution, HU and detectability of denoisers, on simulated phantoms."""
