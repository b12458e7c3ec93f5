"""What the engine knows of CT: files, Hounsfield units, geometry, crops, noise, priors.

Nothing here knows a network or a training.
"""

from volumes.crops import Crop
from volumes.dataset import Split
from volumes.noise import Gaussian, Recorded
from volumes.priors import NeighbourMean
from volumes.sources import Clean, Noisy, SliceTV, Turned
from volumes.window import Window

__all__ = [
    "Clean", "Crop", "Gaussian", "NeighbourMean", "Noisy", "Recorded", "SliceTV", "Split", "Turned",
    "Window",
]  # fmt: skip
