"""Noise reduction: the noise of a scan before and after it was denoised, in uniform tissue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine.denoising.denoise import Denoised
from engine.recipe.recipe import Recipe
from engine.scoring.scan_noise import ScanNoise, TissueNoise, scan_noise
from volumes.nifti import Scan, Stored

_FAR = 2.0  # times what the network learned; not chosen by measurement


@dataclass(frozen=True)
class NoiseReduction:
    """The noise of a scan and of its result, as `engine info --noise` measures it.

    Attributes:
        tissue: the class that stands for the scan.
        before_hu, after_hu: standard deviation within slices, without what is slower than 16
            pixels. The second is None where no noise is left to be measured.
    """

    tissue: str
    before_hu: float
    after_hu: float | None

    @classmethod
    def of(cls, denoised: Denoised, before: ScanNoise | None) -> NoiseReduction | None:
        """Measures a denoised scan; None if the scan has no uniform region with noise.

        Args:
            denoised: the scan.
            before: its noise; None if that was not measured yet.
        """
        before = before or _noise(denoised.scan, denoised.before)
        if before.tissue is None or before.sigma_hu is None:
            return None
        left = _noise(denoised.scan, denoised.after).tissues[before.tissue]
        left_hu = left.sigma_hu if isinstance(left, TissueNoise) else None
        return cls(before.tissue, before.sigma_hu, left_hu)

    def about(self) -> dict[str, Any]:
        """Plain data, for the sidecar."""
        after_hu = None if self.after_hu is None else round(self.after_hu, 2)
        return {"tissue": self.tissue, "before": round(self.before_hu, 2), "after": after_hu}

    def __str__(self) -> str:
        """The noise in words.

        Example:
            >>> print(NoiseReduction("soft_tissue", 17.24, 14.21))
            noise of soft tissue 17.2 HU before, 14.2 HU after
        """
        after = "too little to be measured" if self.after_hu is None else f"{self.after_hu:.3g} HU"
        tissue = self.tissue.replace("_", " ")
        return f"noise of {tissue} {self.before_hu:.3g} HU before, {after} after"

    def doubt(self, recipe: Recipe) -> str:
        """A warning if a network learned noise of another strength; empty if it did not.

        Args:
            recipe: of the network. The strength of recorded or simulated noise is not known.
        """
        low_hu, high_hu = (sigma * recipe.window.width_hu for sigma in recipe.noise.range)
        if not (self.before_hu > _FAR * high_hu or self.before_hu * _FAR < low_hu):
            return ""
        learned = f"{low_hu:.3g}" if low_hu == high_hu else f"{low_hu:.3g} to {high_hu:.3g}"
        return (
            f"the scan has noise of {self.before_hu:.3g} HU, and the network learned to remove "
            f"{learned} HU: use a network for the noise of this scan"
        )


def _noise(scan: Scan, stored: Stored) -> ScanNoise:
    """The noise of an array in the order of the file."""
    return scan_noise(scan.canonical(stored), scan.spacing_mm, scan.hu)
