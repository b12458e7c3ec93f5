"""Measuring: every denoiser on the same realisations, at every dose."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from engine.characterization.characteristics import (
    Characteristics,
    detected_rods,
    ensemble_sigma,
    hu_of,
    noise_of,
    psnr_db,
    transfers_of,
    uniformity_of,
    with_theory,
)
from engine.characterization.denoisers import RECONSTRUCTION, Denoiser
from engine.characterization.ensembles import LesionSlice, Module, phantom_module
from engine.errors import NumericalFailure
from volumes.phantoms.quality_phantoms import QualityPhantom
from volumes.tomography.scanner import Scanner
from volumes.volume import Unit

Tick = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class QualityProtocol:
    """What is measured, and how.

    Attributes:
        phantom: the modules.
        scanner: that scans them.
        pixel_mm: width of the pixels of the modules.
        doses: photons per ray, ascending; the last is the full dose.
        realisations: of every module at every dose, at least 8.
        lesions: a real slice with lesions; None without one.
        seed: of all noise, and of the readers.
    """

    phantom: QualityPhantom
    scanner: Scanner
    pixel_mm: float
    doses: tuple[float, ...]
    realisations: int
    lesions: LesionSlice | None = None
    seed: int = 0


def measure(
    protocol: QualityProtocol, denoisers: Sequence[Denoiser], tick: Tick
) -> dict[str, dict[float, Characteristics]]:
    """The characteristics of every denoiser at every dose, by label and dose.

    Raises:
        NumericalFailure: if an estimate is not finite.
    """
    phantom, pixel = protocol.phantom, protocol.pixel_mm
    modules = {
        rods: phantom_module(rods, protocol.scanner, pixel)
        for rods in (phantom.contrast, phantom.low_contrast, phantom.uniform)
    }
    # Splits into halves are the same for all methods, so that their results are paired.
    reach = max(denoiser.reach for denoiser in denoisers)
    together = min(2 * reach + 1, protocol.realisations // 4)
    found: dict[str, dict[float, Characteristics]] = {d.label: {} for d in denoisers}
    for photons in protocol.doses:

        def scanned(module: Module, photons: float = photons) -> tuple[Module, Unit, float]:
            tick(f"{photons:g} photons: {protocol.realisations} scans of {module.name}")
            stack = np.stack(
                list(module.realisations(
                    protocol.scanner, photons, protocol.realisations, protocol.seed
                ))
            )  # fmt: skip
            return module, stack, ensemble_sigma(stack, module.body)

        contrast, low, uniform = (
            scanned(modules[rods])
            for rods in (phantom.contrast, phantom.low_contrast, phantom.uniform)
        )
        slices = protocol.lesions and tuple(
            scanned(module) for module in (protocol.lesions.present, protocol.lesions.absent)
        )
        for denoiser in denoisers:
            tick(f"{photons:g} photons: {denoiser.label}")

            def apply(
                scans: tuple[Module, Unit, float], denoiser: Denoiser = denoiser,
                photons: float = photons,
            ) -> Unit:  # fmt: skip
                module, stack, sigma = scans
                # A copy, so that a method cannot change the input of the next one.
                estimate = denoiser.denoise(stack.copy(), sigma, module.pixel_mm, photons)
                if not np.isfinite(estimate).all():
                    cause = f"gives numbers that are not finite at {photons:g} photons"
                    raise NumericalFailure(denoiser.label, cause, "Leave it out")
                return estimate

            one = _phantom_characteristics(
                protocol, denoiser.label, photons, together, apply(contrast), apply(low),
                apply(uniform), low[0],
            )  # fmt: skip
            if protocol.lesions is not None and slices:
                present, absent = map(apply, slices)
                one = _with_lesions(protocol.lesions, one, present, absent, protocol.seed, together)
            found[denoiser.label][photons] = one
    return found


def _phantom_characteristics(
    protocol: QualityProtocol, label: str, photons: float, together: int, contrast: Unit, low: Unit,
    uniform: Unit, module: Module,
) -> Characteristics:  # fmt: skip
    """Everything that is measured on the phantom, from the estimates of its three modules."""
    phantom, pixel = protocol.phantom, protocol.pixel_mm
    noise = noise_of(uniform, phantom.uniform, pixel)
    transfers = transfers_of(contrast, phantom.contrast, pixel)
    rods = detected_rods(
        low, uniform, phantom.low_contrast.rods, pixel, f"rods at {photons.hex()}",
        protocol.seed, together,
    )  # fmt: skip
    return Characteristics(
        label,
        photons,
        noise,
        uniformity_of(uniform, phantom.uniform, pixel),
        transfers,
        hu_of(contrast, phantom.contrast, pixel),
        with_theory(rods, noise, transfers, phantom.low_contrast.hu),
        psnr_db(low, module.true_hu, module.body),
        pictures=(low[0], low.mean(axis=0)),
    )


def _with_lesions(
    lesions: LesionSlice, one: Characteristics, present: Unit, absent: Unit, seed: int,
    together: int,
) -> Characteristics:  # fmt: skip
    module = lesions.absent
    seen = detected_rods(
        present, absent, lesions.lesions, module.pixel_mm, f"lesions at {one.photons.hex()}", seed,
        together,
    )  # fmt: skip
    psnr = psnr_db(absent, module.true_hu, module.body)
    return replace(one, lesions=seen, slice_psnr_db=psnr)


def full_dose(
    found: Mapping[str, Mapping[float, Characteristics]],
) -> Characteristics:
    """The reconstruction at the highest dose."""
    by_dose = found[RECONSTRUCTION]
    return by_dose[max(by_dose)]
