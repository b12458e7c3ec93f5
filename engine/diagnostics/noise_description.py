"""The noise of a scan in words and in numbers, for `engine info --noise`."""

from __future__ import annotations

from typing import Any

from engine.scoring.scan_noise import ScanNoise, TissueNoise


def noise_rows(found: ScanNoise) -> list[tuple[str, str]]:
    """Names and values that describe the noise of a scan."""
    rows = [
        (f"noise, {name.replace('_', ' ')}", _of_tissue(noise))
        for name, noise in found.tissues.items()
    ]
    if found.power is None or found.sigma_hu is None or found.sigma is None:
        return rows
    source = "differences of neighbouring slices" if found.of_differences else "single slices"
    frequency, power = found.power.radial
    shown = ", ".join(f"{p:.3g} at {f:.2f}" for f, p in zip(frequency, power, strict=True))
    rows += [
        ("noise level", f"{found.sigma_hu:.1f} HU, {found.sigma:.1%} of the window -1000 to 400"),
        ("noise power", f"{shown} (HU² mm² at cycles/mm), of {source}"),
        ("noise of neighbours", f"correlation {found.neighbours:.2f} within slices"),
        (
            "noise colour",
            f"{found.colour}: the power of frequencies differs by a factor of "
            f"{found.unevenness:.2f}, and rises by one of {found.rise:.2f}",
        ),
        ("network for it", f"{found.network}"),
    ]
    if found.between_slices is not None:
        name, within = rows[-3]
        rows[-3] = (name, f"{within}, {found.between_slices:.2f} between slices")
    return rows


def noise_content(found: ScanNoise) -> dict[str, Any]:
    """The same for JSON. What was not measured is None, with a reason."""
    content: dict[str, Any] = {
        "tissues": {
            name: {"sigma_hu": noise.sigma_hu, "regions": noise.regions}
            if isinstance(noise, TissueNoise)
            else {"sigma_hu": None, "reason": noise}
            for name, noise in found.tissues.items()
        },
        "tissue": found.tissue,
        "sigma_hu": found.sigma_hu,
        "sigma": found.sigma,
        "colour": found.colour,
        "unevenness": found.unevenness,
        "rise": found.rise,
        "bands": list(found.bands),
        "correlation_within_slices": found.neighbours,
        "correlation_between_slices": found.between_slices,
        "network": found.network,
        "noise_power": None,
    }
    if found.power is not None:
        frequency, power = found.power.radial
        content["noise_power"] = {
            "of": "differences of neighbouring slices" if found.of_differences else "slices",
            "regions": found.power.regions,
            "frequency_per_mm": frequency.tolist(),
            "power_hu2_mm2": power.tolist(),
        }
    return content


def _of_tissue(noise: TissueNoise | str) -> str:
    if isinstance(noise, str):
        return f"not measured: {noise}"
    return f"{noise.sigma_hu:.1f} HU, in {noise.regions:,} regions"
