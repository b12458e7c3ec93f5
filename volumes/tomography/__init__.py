"""Tomography: projection, photon noise and reconstruction of slices."""
