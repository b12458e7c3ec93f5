"""Phantoms: synthetic abdomens, rods in a cylinder to measure image quality, and lesions."""
