"""Volumes: CT files, Hounsfield units, geometry, crops, noise and priors.

Nothing here depends on a network or on training.
"""

from volumes.dataset import Split
from volumes.sampling.coloured_noise import Coloured
from volumes.sampling.crops import Crop
from volumes.sampling.mixed_noise import Mixed
from volumes.sampling.noise import AsScanned, Gaussian, Recorded
from volumes.sampling.prior_sources import Clean, Noisy, SliceTV, Turned
from volumes.sampling.priors import NeighbourMean
from volumes.sampling.scanner_noise import LowDose, SparseView
from volumes.tomography.scanner import Scanner
from volumes.window import Window

__all__ = [
    "AsScanned", "Clean", "Coloured", "Crop", "Gaussian", "LowDose", "Mixed", "NeighbourMean",
    "Noisy", "Recorded", "Scanner", "SliceTV", "SparseView", "Split", "Turned", "Window",
]  # fmt: skip
