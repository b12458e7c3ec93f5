"""Measuring: every denoiser on the same realisations, at every dose."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from engine.characterization.characteristics import (
    Characteristics,
    detected_rods,
    hu_of,
    noise_of,
    psnr_db,
    transfers_of,
    uniformity_of,
    with_theory,
)
from engine.characterization.denoisers import (
    MOST_SLICES,
    Denoiser,
    denoised,
    measured_reach,
)
from engine.characterization.ensembles import Ensemble, LesionSlice, Module, phantom_module
from engine.characterization.hotelling import least_images
from engine.comparison.methods import RECONSTRUCTION
from engine.errors import BadUsage
from volumes.phantoms.quality_phantoms import QualityPhantom
from volumes.tomography.photon_noise import dose_text
from volumes.tomography.scanner import Scanner

Tick = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class QualityProtocol:
    """What is measured, and how.

    Attributes:
        phantom: the modules.
        scanner: that scans them.
        pixel_mm: width of the pixels of the modules.
        doses: photons per ray, ascending; the last is the full dose.
        realisations: of every module at every dose, at least 16.
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
        BadUsage: if a method mixes so many realisations that too few are independent.
        NumericalFailure: if an estimate is not finite.
    """
    modules = _modules(protocol)
    reaches = _reaches(protocol, denoisers, modules[2], tick)
    # Splits into halves are the same for all methods, so that their results are paired.
    split = max(reaches.values())
    found: dict[str, dict[float, Characteristics]] = {d.label: {} for d in denoisers}
    for photons in protocol.doses:
        ensembles = []
        for module in modules:
            tick(f"{dose_text(photons)} photons: {protocol.realisations} scans of {module.name}")
            ensembles.append(
                module.scanned(protocol.scanner, photons, protocol.realisations, protocol.seed)
            )
        for denoiser in denoisers:
            tick(f"{dose_text(photons)} photons: {denoiser.label}")
            estimates = [denoised(ensemble, denoiser) for ensemble in ensembles]
            reach = reaches[denoiser.label]
            one = _on_the_phantom(protocol, denoiser.label, estimates[:3], reach, split)
            if protocol.lesions is not None:
                one = _with_lesions(protocol, one, estimates[3:], split)
            found[denoiser.label][photons] = one
    return found


def _reaches(
    protocol: QualityProtocol, denoisers: Sequence[Denoiser], uniform: Module, tick: Tick
) -> dict[str, int]:
    """The reach of every denoiser by label, measured at the lowest dose, where it is largest."""
    reaches = {denoiser.label: 0 for denoiser in denoisers}
    deep = [denoiser for denoiser in denoisers if denoiser.reach]
    if not deep:
        return reaches
    tick(f"slices that an estimate depends on: {', '.join(one.label for one in deep)}")
    count = min(protocol.realisations, MOST_SLICES)
    ensemble = uniform.scanned(protocol.scanner, protocol.doses[0], count, protocol.seed)
    for denoiser in deep:
        reach = reaches[denoiser.label] = measured_reach(ensemble, denoiser)
        if protocol.realisations < (least := least_images(reach)):
            cause = (
                f"needs {least} realisations: an estimate depends on {reach} slices on each side, "
                "so neighbours share noise"
            )
            raise BadUsage(denoiser.label, cause, f"Use --realisations {least}, or leave it out")
    return reaches


def _modules(protocol: QualityProtocol) -> list[Module]:
    """Contrast, low contrast, uniform; then the slice with and without lesions, if there is one."""
    phantom = protocol.phantom
    modules = [
        phantom_module(rods, protocol.scanner, protocol.pixel_mm)
        for rods in (phantom.contrast, phantom.low_contrast, phantom.uniform)
    ]
    lesions = protocol.lesions
    return modules if lesions is None else [*modules, lesions.present, lesions.absent]


def _on_the_phantom(
    protocol: QualityProtocol, label: str, estimates: Sequence[Ensemble], reach: int, split: int
) -> Characteristics:
    """Everything that is measured on the phantom, from the estimates of its three modules.

    Args:
        protocol: what is measured.
        label: of the denoiser.
        estimates: of the modules.
        reach: of the denoiser.
        split: the largest reach of all denoisers, for the observers.
    """
    phantom, pixel = protocol.phantom, protocol.pixel_mm
    contrast, low, uniform = estimates
    noise = noise_of(uniform.stack_hu, phantom.uniform, pixel, reach)
    transfers = transfers_of(contrast.stack_hu, phantom.contrast, pixel, reach)
    rods = detected_rods(
        low.stack_hu, uniform.stack_hu, phantom.low_contrast.rods, pixel,
        f"rods at {low.photons.hex()}", protocol.seed, split,
    )  # fmt: skip
    return Characteristics(
        label,
        low.photons,
        noise,
        uniformity_of(uniform.stack_hu, phantom.uniform, pixel),
        transfers,
        hu_of(contrast.stack_hu, phantom.contrast, pixel, reach),
        with_theory(rods, noise, transfers, phantom.low_contrast.hu),
        psnr_db(low.stack_hu, low.module.true_hu, low.module.body),
        reach=reach,
        pictures=(low.stack_hu[0], low.stack_hu.mean(axis=0)),
    )


def _with_lesions(
    protocol: QualityProtocol, one: Characteristics, estimates: Sequence[Ensemble], split: int
) -> Characteristics:
    """The characteristics, with the lesions of the real slice."""
    assert protocol.lesions is not None
    present, absent = estimates
    module = absent.module
    seen = detected_rods(
        present.stack_hu, absent.stack_hu, protocol.lesions.lesions, module.pixel_mm,
        f"lesions at {one.photons.hex()}", protocol.seed, split,
    )  # fmt: skip
    psnr = psnr_db(absent.stack_hu, module.true_hu, module.body)
    return replace(one, lesions=seen, slice_psnr_db=psnr)


def full_dose(
    found: Mapping[str, Mapping[float, Characteristics]],
) -> Characteristics:
    """The reconstruction at the highest dose."""
    by_dose = found[RECONSTRUCTION]
    return by_dose[max(by_dose)]
