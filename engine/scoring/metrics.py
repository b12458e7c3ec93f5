"""Metrics: how close an estimate is to the clean volume.

Unless noted, they are computed on a whole volume in window units, with clean and estimate clipped
to [0, 1]. The data range is then 1, the width of the window in HU.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine import runtime
from volumes.volume import HU, Unit
from volumes.window import SOFT_TISSUE_HU, Window


@dataclass(frozen=True)
class Scores:
    """The scores of one volume.

    Attributes:
        mse: mean squared error in squared window units.
        psnr_db: 10 log10(1 / mse), over all voxels of the volume.
        ssim: mean over slices; Gaussian 11 x 11 window of sigma 1.5, data range 1.
        relative_l2_percent: 100 ||estimate - clean|| / ||clean||.
        rmse_hu: root mean squared error in HU within the window.
    """

    mse: float
    psnr_db: float
    ssim: float
    relative_l2_percent: float
    rmse_hu: float


def scores(clean: Unit, estimate: Unit, window: Window) -> Scores:
    """The scores of an estimate, (Z, Y, X) in window units.

    SSIM is that of Wang et al., IEEE Trans. Image Process. 13 (2004), as TensorFlow computes it:
    within slices, without padding.
    """
    finite = np.isfinite(estimate)  # clipping would hide an infinite estimate
    clean, estimate = np.clip(clean, 0, 1), np.where(finite, np.clip(estimate, 0, 1), np.nan)
    error = (estimate - clean).astype(np.float64)
    mse = float(np.mean(error**2))
    norm = float(np.sqrt(np.sum(clean.astype(np.float64) ** 2)))
    return Scores(
        mse=mse,
        psnr_db=-10 * float(np.log10(mse)) if mse else float("inf"),
        ssim=_ssim(clean, estimate),
        relative_l2_percent=100 * float(np.sqrt(np.sum(error**2))) / norm if norm else float("nan"),
        rmse_hu=window.width_hu * float(np.sqrt(mse)),
    )


def _ssim(clean: Unit, estimate: Unit) -> float:
    if min(clean.shape[1:]) < 11:
        return float("nan")  # the window does not fit into a slice
    tf = runtime.tensorflow()
    slices = [
        tf.image.ssim(one[..., None], other[..., None], max_val=1.0).numpy()
        for one, other in zip(clean, estimate, strict=True)
    ]
    return float(np.mean(np.asarray(slices, np.float64)))


def attenuation_scores(clean_hu: HU, estimate_hu: Unit) -> dict[str, float]:
    """Scores of the attenuation, as studies of low-dose and sparse-view CT report them.

    PSNR is 10 log10(max(clean)^2 / mse), and SSIM has the data range max(clean). Both are computed
    per slice and averaged. Slices of air alone have no range and are left out. The clean slice is
    clipped at 0, the estimate is not clipped. SSIM is that of MATLAB: Gaussian 11 x 11, sigma 1.5,
    over the whole slice, with repeated edges.

    Args:
        clean_hu: (Z, Y, X) HU of the reference, whole numbers.
        estimate_hu: (Z, Y, X) HU.
    """
    psnr, ssim = [], []
    for one, other in zip(clean_hu, estimate_hu, strict=True):
        # Relative to water: neither score depends on the unit.
        clean, estimate = (1 + hu.astype(np.float64) / 1000 for hu in (one, other))
        clean = np.maximum(clean, 0)
        if high := float(clean.max()):
            mse = float(np.mean((estimate - clean) ** 2))
            psnr.append(10 * float(np.log10(high**2 / mse)) if mse else float("inf"))
            pair = (
                np.pad(image / high, 5, "edge").astype(np.float32) for image in (clean, estimate)
            )
            ssim.append(_ssim(*(image[None] for image in pair)))
    return {
        "psnr_mu_db": float(np.mean(psnr)) if psnr else float("nan"),
        "ssim_mu": float(np.mean(ssim)) if ssim else float("nan"),
    }


# Display windows (level, width in HU) as radiologists name them.
DISPLAY_WINDOWS = {"lung": (-600, 1500), "soft_tissue": (40, 400), "bone": (300, 1500)}


def window_psnr(clean: Unit, estimate: Unit, window: Window) -> dict[str, float]:
    """PSNR within each display window. The data range is the width of that window.

    Args:
        clean: (Z, Y, X) in the units of `window`.
        estimate: likewise.
        window: of the images, to which both are clipped: what lies beyond is not compared.
    """
    found = {}
    # As in `scores`: clipping would hide an infinite estimate.
    estimate = np.where(np.isfinite(estimate), estimate, np.float32(np.nan))
    for name, (level, width) in DISPLAY_WINDOWS.items():
        low = level - width / 2
        shown = (window.hu(np.clip(x, 0, 1)) for x in (clean, estimate))
        one, other = (np.clip((hu - low) / width, 0, 1) for hu in shown)
        mse = float(np.mean((one - other).astype(np.float64) ** 2))
        found[f"psnr_{name}_db"] = -10 * float(np.log10(mse)) if mse else float("inf")
    return found


def soft_tissue_rmse(clean: Unit, estimate: Unit, window: Window) -> float:
    """Root mean squared error in HU where the clean image shows soft tissue, [-160, 240] HU.

    Radiologists look at these errors. Over a whole slice, errors in air dominate.

    Args:
        clean: (Z, Y, X) in the units of `window`.
        estimate: likewise.
        window: of the images.

    Returns:
        NaN if the clean image shows no soft tissue.
    """
    low, high = SOFT_TISSUE_HU
    clean_hu = window.hu(clean)
    inside = (clean_hu > low) & (clean_hu < high)
    error = (estimate[inside] - clean[inside]).astype(np.float64)
    return window.width_hu * float(np.sqrt(np.mean(error**2))) if error.size else float("nan")
