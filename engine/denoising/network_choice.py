"""Network choice: which of the networks that ship denoises a scan, from the noise of the scan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine.scoring.scan_noise import ScanNoise, scan_noise
from volumes.nifti import Scan

WHITE, SCANNER = "gaussian_denoiser", "ct_denoiser"
# The weakest noise that the networks have learned, 0.5 % of the window. There `ct_denoiser` gains
# 0.7 dB, and at half of it loses 3 dB: `engine evaluate noisy ct_denoiser --slices 4
# --noise gaussian:0.0025,0.005 --split validation`.
LEAST_NOISE_HU = 7.0


@dataclass(frozen=True)
class NetworkChoice:
    """The network for one scan, and why.

    Attributes:
        noise: of the scan, as measured.
    """

    noise: ScanNoise

    @property
    def network(self) -> str:
        """Name of a network that ships. Only measured white noise gets that for white noise."""
        return self.noise.network or SCANNER

    @property
    def noise_hu(self) -> float | None:
        """Standard deviation of the noise; None if it could not be measured."""
        return self.noise.sigma_hu

    @property
    def helps(self) -> bool:
        """Whether the noise is strong enough for the network to reduce it."""
        return self.noise_hu is None or self.noise_hu >= LEAST_NOISE_HU

    def about(self) -> dict[str, Any]:
        """Plain data, for the sidecar."""
        found = self.noise
        measured = {"noise_hu": self.noise_hu, "unevenness": found.unevenness, "rise": found.rise}
        rounded = {n: None if v is None else float(f"{v:.3g}") for n, v in measured.items()}
        return {"network": self.network, **rounded, "helps": self.helps}

    def __str__(self) -> str:
        """The choice in words."""
        uneven, rise = self.noise.unevenness, self.noise.rise
        if self.noise_hu is None or uneven is None or rise is None:
            return f"{self.network}, because the noise of the scan could not be measured"
        colour = "white" if self.network == WHITE else "coloured"
        return (
            f"{self.network}: the noise is {colour} (spectrum uneven by {uneven:.2g}, "
            f"rising by {rise:.2g}), {self.noise_hu:.3g} HU"
        )

    def warnings(self) -> tuple[str, ...]:
        """A warning if the scan is returned as it is."""
        if self.helps:
            return ()
        return (
            f"returned as it is: its noise of {self.noise_hu:.2g} HU is below "
            f"{LEAST_NOISE_HU:g} HU, where no network that ships helps; -m NETWORK applies one",
        )


def choose_network(scan: Scan) -> NetworkChoice:
    """The network for a scan.

    Args:
        scan: a loaded one is not read again.
    """
    return NetworkChoice(scan_noise(scan.canonical(scan.read()), scan.spacing_mm, scan.hu))
