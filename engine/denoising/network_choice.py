"""Network choice: which of the networks that ship denoises a scan, from the noise of the scan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine.scoring.scan_noise import scan_noise
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
        network: name of a network that ships.
        noise_hu: standard deviation of the noise of the scan; None if it could not be measured.
        unevenness: of its spectrum, 1 for white noise; None if it could not be measured.
        rise: of its spectrum, likewise.
    """

    network: str
    noise_hu: float | None
    unevenness: float | None
    rise: float | None = None

    @property
    def helps(self) -> bool:
        """Whether the noise is strong enough for the network to reduce it."""
        return self.noise_hu is None or self.noise_hu >= LEAST_NOISE_HU

    def about(self) -> dict[str, Any]:
        """Plain data, for the sidecar."""
        measured = {"noise_hu": self.noise_hu, "unevenness": self.unevenness, "rise": self.rise}
        rounded = {n: None if v is None else float(f"{v:.3g}") for n, v in measured.items()}
        return {"network": self.network, **rounded, "helps": self.helps}

    def __str__(self) -> str:
        """The choice in words."""
        if self.noise_hu is None or self.unevenness is None or self.rise is None:
            return f"{self.network}, because the noise of the scan could not be measured"
        colour = "white" if self.network == WHITE else "coloured"
        return (
            f"{self.network}: the noise is {colour} (spectrum uneven by {self.unevenness:.2g}, "
            f"rising by {self.rise:.2g}), {self.noise_hu:.3g} HU"
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
    """The network for a scan. Only white noise is given to the network that learned white noise.

    Args:
        scan: a loaded one is not read again.
    """
    found = scan_noise(scan.canonical(scan.read()), scan.spacing_mm, scan.hu)
    return NetworkChoice(found.network or SCANNER, found.sigma_hu, found.unevenness, found.rise)
