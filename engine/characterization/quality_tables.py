"""Tables of a characterisation as text, for the terminal and the report."""

from __future__ import annotations

import math
from collections.abc import Sequence

from engine.characterization.dose_equivalence import EquivalentDose, auc_change, d_change, mean_auc
from engine.characterization.quantities import Doses, Found
from engine.comparison.methods import RECONSTRUCTION
from engine.report.tables import Table
from volumes.tomography.photon_noise import dose_text

_NONE = "–"  # noqa: RUF001


def overview(found: Found, doses: Doses) -> Table:
    """The table for the terminal: noise, PSNR and detectability of each method and dose."""
    columns = [
        "method", "photons", "noise\n(HU)", "noise\nratio", "NPS mean f\n(1/mm)", "PSNR\n(dB)",
        "mean AUC", "change of\nmean AUC", "dose equal\nto full",
    ]  # fmt: skip
    rows = []
    for label, by_dose in found.items():
        for photons, one in by_dose.items():
            before = found[RECONSTRUCTION][photons]
            names = list(one.rods)
            change = auc_change(one, before, names)
            rows.append(
                [
                    label,
                    dose_text(photons),
                    _number(one.noise.sigma_hu, 1),
                    _number(one.noise.sigma_hu / before.noise.sigma_hu, 3),
                    _number(one.noise.mean_per_mm, 3),
                    _number(one.psnr_db, 2),
                    _number(mean_auc(one, names), 3),
                    "" if label == RECONSTRUCTION else f"{change.value:+.3f}",
                    _dose(doses[label, MEAN_OF_RODS]),
                ]
            )
    return columns, rows


MEAN_OF_RODS, MEAN_OF_LESIONS = "mean of rods", "mean of lesions"


def noise_table(found: Found) -> Table:
    """Noise, its spectrum and uniformity."""
    columns = [
        "method", "photons", "noise (HU)", "ratio", "NPS peak (1/mm)", "NPS mean (1/mm)",
        "ratio of means", "nonuniformity (HU)", "PSNR (dB)",
    ]  # fmt: skip
    return columns, [
        [
            label,
            dose_text(photons),
            _number(one.noise.sigma_hu, 2),
            _number(one.noise.sigma_hu / found[RECONSTRUCTION][photons].noise.sigma_hu, 3),
            _number(one.noise.peak_per_mm, 3),
            _number(one.noise.mean_per_mm, 3),
            _number(one.noise.mean_per_mm / found[RECONSTRUCTION][photons].noise.mean_per_mm, 3),
            _number(one.nonuniformity_hu, 2),
            _number(one.psnr_db, 2),
        ]
        for label, by_dose in found.items()
        for photons, one in by_dose.items()
    ]


def transfer_table(found: Found) -> Table:
    """50 % and 10 % frequencies of the task transfer function of every insert."""
    inserts = list(next(iter(next(iter(found.values())).values())).transfers)
    return ["method", "photons", *inserts], [
        [
            label,
            dose_text(photons),
            *(
                f"{_number(one.frequency_at(0.5), 2)} / {_number(one.frequency_at(0.1), 2)}"
                for one in (found[label][photons].transfers[insert] for insert in inserts)
            ),
        ]
        for label, by_dose in found.items()
        for photons in by_dose
    ]


def hu_table(found: Found) -> Table:
    """Bias of the HU of every insert."""
    first = next(iter(next(iter(found.values())).values())).hu
    inserts = [f"{name} ({hu.nominal_hu:g})" for name, hu in first.items()]
    return ["method", "photons", *inserts], [
        [
            label,
            dose_text(photons),
            *(f"{hu.bias_hu:+.1f} ± {hu.standard_error_hu:.1f}" for hu in one.hu.values()),
        ]
        for label, by_dose in found.items()
        for photons, one in by_dose.items()
    ]


def detection_table(found: Found, names: Sequence[str]) -> Table:
    """AUC of the channelised Hotelling observer, and d' of all observers, for every rod."""
    columns = ["method", "photons", "signal", "AUC [95 %]", "d' CHO [95 %]", "d' NPW", "d' NPWE"]
    rows = []
    for label, by_dose in found.items():
        for photons, one in by_dose.items():
            for name in names:
                rod = one.detected[name]
                seen = rod.hotelling
                rows.append(
                    [
                        label, dose_text(photons), name,
                        f"{seen.auc:.3f} {_ends(seen.auc_interval, 3)}",
                        f"{seen.d_prime:.2f} {_ends(seen.d_interval, 2)}",
                        _number(rod.npw, 2), _number(rod.npwe, 2),
                    ]
                )  # fmt: skip
    return columns, rows


def change_table(found: Found) -> Table:
    """What each method changes against the reconstruction at the same dose."""
    columns = ["method", "photons", "signals", "PSNR (dB)", "mean AUC [95 %]", "mean d' [95 %]"]
    rows = []
    for label, by_dose in found.items():
        for photons, one in by_dose.items():
            before = found[RECONSTRUCTION][photons]
            sides = [("rods", list(one.rods), one.psnr_db - before.psnr_db)]
            if one.lesions:
                gain = one.slice_psnr_db - before.slice_psnr_db
                sides.append(("lesions", list(one.lesions), gain))
            for what, names, gain in sides if label != RECONSTRUCTION else []:
                auc, d = auc_change(one, before, names), d_change(one, before, names)
                rows.append(
                    [
                        label, dose_text(photons), what, f"{gain:+.2f}",
                        f"{auc.value:+.3f} [{auc.low:+.3f}, {auc.high:+.3f}]",
                        f"{d.value:+.2f} [{d.low:+.2f}, {d.high:+.2f}]",
                    ]
                )  # fmt: skip
    return columns, rows


def dose_table(doses: Doses) -> Table:
    """The dose of equal detectability of every method, by rod."""
    methods, names = (list(dict.fromkeys(key[i] for key in doses)) for i in (0, 1))
    return ["method", *names], [
        [method, *(_dose(doses[method, name], interval=True) for name in names)]
        for method in methods
    ]


def _dose(dose: EquivalentDose, *, interval: bool = False) -> str:
    """A dose in photons a ray; "none" if it is not reached; at the lowest dose, an upper bound."""

    def text(photons: float) -> str:
        if math.isinf(photons):
            return "none"
        shown = dose_text(float(f"{photons:.2g}"))
        return f"≤ {shown}" if photons <= dose.lowest else shown

    ends = f" [{text(dose.low)}, {text(dose.high)}]" if interval else ""
    return text(dose.photons) + ends


def _ends(interval: tuple[float, float], digits: int) -> str:
    return f"[{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else _NONE
