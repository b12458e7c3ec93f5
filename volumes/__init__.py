"""What the engine knows of CT: files, Hounsfield units, geometry, crops, noise, priors.

Nothing here knows a network or a training.
"""

from volumes.coloured_noise import Coloured
from volumes.crops import Crop
from volumes.dataset import Split
from volumes.mixed_noise import Mixed
from volumes.noise import Gaussian, Recorded
from volumes.priors import NeighbourMean
from volumes.scanned import LowDose, SparseView
from volumes.sources import Clean, Noisy, SliceTV, Turned
from volumes.tomography import Scanner
from volumes.window import Window

__all__ = [
    "Clean", "Coloured", "Crop", "Gaussian", "LowDose", "Mixed", "NeighbourMean", "Noisy",
    "Recorded", "Scanner", "SliceTV", "SparseView", "Split", "Turned", "Window",
]  # fmt: skip
