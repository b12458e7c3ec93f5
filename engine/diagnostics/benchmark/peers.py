"""Other ways to apply the same network to a scan: PyTorch, and MONAI's sliding windows.

The windows overlap, and their estimates are averaged. nnU-Net (Isensee et al., Nature Methods 2021)
weights them by a Gaussian and moves them by half of their size. Its average over mirrored images is
left out: it would take eight times as long. Both packages are optional.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from engine.diagnostics.benchmark import packages
from engine.diagnostics.benchmark.case import Case
from engine.diagnostics.benchmark.torch_network import TorchNetwork
from engine.diagnostics.benchmark.ways import Way
from engine.errors import NumericalFailure
from engine.inference.predictor import tensor
from volumes.volume import Unit

PACKAGES = ("torch", "monai")
_SAME = 1e-4  # in window units: float32 is summed in another order
_CROP = (16, 32, 32)


def peers(case: Case) -> dict[str, Way]:
    """PyTorch's and MONAI's ways, as far as they are installed."""
    if packages.package("torch") is None:
        return {}
    torch = packages.package("torch")
    network, image = TorchNetwork(case.network), torch.from_numpy(case.image)[None, None]
    ways: dict[str, Way] = {"PyTorch, one pass": lambda: _array(network(image))}
    if packages.package("monai") is None:
        return ways
    from monai.inferers import sliding_window_inference

    def windows(overlap: float, mode: str) -> Unit:
        with torch.inference_mode():
            return _array(sliding_window_inference(image, case.tile, 1, network, overlap, mode))

    return ways | {
        f"MONAI, windows of {case.tile_text}, overlap 0.25": partial(windows, 0.25, "constant"),
        f"MONAI, windows of {case.tile_text}, overlap 0.5": partial(windows, 0.5, "constant"),
        f"nnU-Net's way, windows of {case.tile_text}": partial(windows, 0.5, "gaussian"),
    }


def disagreement(case: Case) -> float:
    """The largest difference of PyTorch's and TensorFlow's network on a crop, in window units.

    Raises:
        NumericalFailure: if they are not the same network.
    """
    torch = packages.package("torch")
    crop = np.ascontiguousarray(case.image[tuple(slice(extent) for extent in _CROP)])
    theirs = _array(TorchNetwork(case.network)(torch.from_numpy(crop)[None, None]))
    apart = float(np.abs(case.network(tensor(crop)).numpy()[0, ..., 0] - theirs).max())
    if not apart <= _SAME:
        cause = f"differs by {apart:.1e} of the window from TensorFlow's"
        raise NumericalFailure("PyTorch's network", cause, "Use another version of PyTorch")
    return apart


def _array(estimate: Any) -> Unit:
    """(1, 1, Z, Y, X) in PyTorch -> (Z, Y, X)."""
    return np.asarray(estimate.numpy()[0, 0], np.float32)
