"""What the engine knows of CT: files, Hounsfield units, geometry, crops, noise, priors.

Nothing here knows a network or a training.
"""

from volumes.crops import Crop
from volumes.dataset import Split
from volumes.noise import Gaussian
from volumes.priors import NeighbourMean
from volumes.window import Window

__all__ = ["Crop", "Gaussian", "NeighbourMean", "Split", "Window"]
