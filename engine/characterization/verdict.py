"""Verdict: in sentences, what a method does to PSNR and to detectability."""

from __future__ import annotations

from engine.characterization.characteristics import Characteristics
from engine.characterization.dose_equivalence import auc_change, mean_auc
from engine.characterization.quantities import Found
from engine.comparison.methods import RECONSTRUCTION
from volumes.tomography.photon_noise import dose_text

_ALL_DETECTED = 0.98  # mean AUC


def verdicts(found: Found) -> list[str]:
    """One sentence for every method and dose, for rods in water and for lesions in a real slice."""
    sentences = []
    for photons, before in found[RECONSTRUCTION].items():
        for label, by_dose in found.items():
            if label == RECONSTRUCTION:
                continue
            one = by_dose[photons]
            gain = one.psnr_db - before.psnr_db
            sentences.append(_sentence(one, before, list(one.rods), "rods in water", gain))
            if one.lesions:
                gain = one.slice_psnr_db - before.slice_psnr_db
                names = list(one.lesions)
                sentences.append(_sentence(one, before, names, "lesions in the real slice", gain))
    return sentences


def _sentence(
    one: Characteristics, before: Characteristics, names: list[str], what: str, gain_db: float
) -> str:
    raised = gain_db > 0
    moved = "raises" if raised else "does not raise"
    text = f"{one.method} at {dose_text(one.photons)} photons {moved} PSNR ({gain_db:+.1f} dB)"
    change = auc_change(one, before, names)
    auc = f"mean AUC {change.value:+.3f} [{change.low:+.3f}, {change.high:+.3f}]"
    if change.high < 0:
        return f"{text} {'but' if raised else 'and'} lowers the detectability of {what}: {auc}."
    if change.low > 0:
        return f"{text} {'and' if raised else 'but'} raises the detectability of {what}: {auc}."
    if mean_auc(before, names) > _ALL_DETECTED:
        return f"{text}; almost all {what} are detected without it: a lower dose would tell more."
    return f"{text}; no change of the detectability of {what} was found: {auc}."


def about_readers(found: Found, realisations: int) -> str:
    """A sentence on how far the numbers of images carry."""
    half, left_out = realisations // 2, 2 * max(_reaches(found).values())
    trained = (
        f"on at least {half - left_out} images with and {half - left_out} without the signal, and "
        f"tested on at least {realisations - half - left_out} others of each"
        if left_out
        else f"on {half} images with and {half} without the signal and tested on the other "
        f"{realisations - half} of each"
    )
    return (
        f"Each reader is trained {trained}. Training on few images lowers the AUC of the test (the "
        "AUC on the images of the training, in the CSV, is too high: the truth lies between); it "
        "does so for every method alike."
        + ("" if realisations >= 100 else " This is a quick look: use 200 for a statement.")
    )


def _reaches(found: Found) -> dict[str, int]:
    return {label: next(iter(by_dose.values())).reach for label, by_dose in found.items()}


def about_reaches(found: Found) -> list[str]:
    """A sentence on methods that see several realisations at once, if there are any."""
    reaches = _reaches(found)
    deep = [f"{reach} ({label})" for label, reach in reaches.items() if reach]
    if not deep:
        return []
    far = max(reaches.values())
    return [
        "Slices on each side that an estimate depends on, measured at the lowest dose: "
        f"{', '.join(deep)}. Neighbouring images share noise, so {far} images on each side of a "
        "border between training and testing are left out, errors count the noise that neighbours "
        "share, blocks of consecutive images are resampled, and the readers are trained again on "
        "each resample."
    ]


def unmeasured(found: Found) -> list[str]:
    """A sentence on inserts whose edge is lost in noise, if there are any."""
    lost: dict[str, list[str]] = {}
    for label, by_dose in found.items():
        for photons, one in by_dose.items():
            for name, transfer in one.transfers.items():
                if not transfer.measurable:
                    lost.setdefault(name, []).append(f"{label} at {dose_text(photons)}")
    return [
        f"No task transfer function of {name} for {', '.join(where)}: its edge does not stand out "
        "of the noise of the mean image by 5 standard deviations. More realisations would help."
        for name, where in lost.items()
    ]
