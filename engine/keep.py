"""What denoising keeps: padding to the bit, and anatomy that lies above the window.

A network trained on clipped images cannot tell bone from denser bone: there the scan keeps its own
values. The opposite mistake is as bad: keeping every *voxel* above the window would leave the
noise's own spikes in the tissue. So the neighbourhood decides, and the network's estimate, which
has seen far more of it than any small filter, is the measure of the neighbourhood.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from volumes.volume import Unit
from volumes.window import Window

_FROM, _TO = 0.90, 0.98


def kept(estimate: Unit, window: Window) -> npt.NDArray[np.float32]:
    """How much of the scan's own value each voxel keeps, from 0 to 1, without a step.

    Args:
        estimate: of the network, in window units, any shape.
        window: networks that were trained without clipping work above it, too.
    """
    if not window.clip:
        return np.zeros_like(estimate)
    rise = np.clip((estimate - _FROM) / (_TO - _FROM), 0, 1)
    return np.asarray(rise * rise * (3 - 2 * rise), np.float32)
