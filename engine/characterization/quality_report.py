"""Report of a characterisation: Markdown, CSV, JSON and figures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from engine.characterization import figures
from engine.characterization import quality_tables as tables
from engine.characterization.quantities import (
    CurvePoint,
    Doses,
    Found,
    Quantity,
    curve_points,
    quantities,
)
from engine.characterization.verdict import about_reaches, about_readers, unmeasured, verdicts
from engine.report.markdown import grid
from engine.runs.metrics_file import strict
from volumes.storage.atomic import make_folder, replace_text
from volumes.tomography.photon_noise import dose_text


def write_report(folder: Path, about: dict[str, Any], found: Found, doses: Doses) -> list[Path]:
    """Writes quantities.csv, curves.csv, report.json, report.md and the figures.

    Args:
        folder: created if it does not exist.
        about: description of the measurement, from `engine.characterization.characterize`.
        found: characteristics by method and dose.
        doses: of equal detectability.

    Returns:
        The paths.

    Raises:
        CannotWrite: if a file cannot be written.
    """
    make_folder(folder)
    rows = quantities(found)
    first = next(iter(found.values()))
    low, one = min(first), first[min(first)]
    at = f"at {dose_text(low)} photons"
    content = {
        **about,
        "remarks": verdicts(found),
        "equivalent_doses": [
            {"method": method, "of": of, **asdict(dose)} for (method, of), dose in doses.items()
        ],
        "quantities": [asdict(row) for row in rows],
    }
    described = json.dumps(strict(content), indent=2, allow_nan=False)
    captions = {
        "images.png": "Low-contrast module: one image, the mean of all, and the 2D noise power.",
        "noise_power.png": "Radial noise power spectra. Below: divided by their area, so that only "
        "the texture differs.",
        "task_transfer.png": f"Task transfer functions {at}, strongest contrast "
        "first. The bead is a point, not an edge.",
        "hu_bias.png": f"Bias of HU by insert {at}, with 95 % intervals.",
        "detectability.png": "AUC of the channelised Hotelling observer, with 95 % intervals. "
        "Dashed: the reconstruction at full dose.",
    }
    paths = [
        replace_text(folder / "quantities.csv", _csv(Quantity, rows)),
        replace_text(folder / "curves.csv", _csv(CurvePoint, curve_points(found))),
        replace_text(folder / "report.json", described),
        replace_text(folder / "report.md", _markdown(about, found, doses, captions)),
    ]
    figures.images(folder / "images.png", found, low)
    figures.noise_power_curves(folder / "noise_power.png", found)
    figures.transfer_curves(folder / "task_transfer.png", found, low)
    figures.hu_errors(folder / "hu_bias.png", found, low)
    figures.detectability(folder / "detectability.png", found, list(one.detected))
    return [*paths, *(folder / name for name in captions)]


def _markdown(about: dict[str, Any], found: Found, doses: Doses, captions: dict[str, str]) -> str:
    first = next(iter(next(iter(found.values())).values()))
    parts = [
        "# Noise, resolution, HU and detectability",
        *verdicts(found),
        *_methods(about),
        "**Table 1.** Noise of the uniform module. Ratios are those to the reconstruction at the "
        "same dose. Nonuniformity: the largest difference between the centre and four discs around "
        "it. PSNR: low-contrast module, within its body, range 1400 HU.",
        grid(tables.noise_table(found)),
        "**Table 2.** Task transfer function: frequencies in 1/mm at which it falls to 50 % / "
        "10 %. –: not below the Nyquist frequency, or not measurable.",  # noqa: RUF001
        grid(tables.transfer_table(found)),
        *unmeasured(found),
        "**Table 3.** Bias of HU ± its standard error over realisations, by insert (nominal HU).",
        grid(tables.hu_table(found)),
        "**Table 4.** Detectability. CHO: from images. NPW, NPWE: from noise power and the task "
        "transfer function of the nearest contrast; they assume a linear system.",
        grid(tables.detection_table(found, list(first.detected))),
        *about_reaches(found),
        about_readers(found, about["realisations"]),
        "**Table 5.** Change against the reconstruction at the same dose, with paired intervals.",
        grid(tables.change_table(found)),
        "**Table 6.** Dose (photons a ray) at which a method has the d' that the reconstruction "
        "has at full dose, with its 95 % interval. none: at no dose that was measured. ≤: already "
        "at the lowest.",
        grid(tables.dose_table(doses)),
        "**Table 7.** Settings.",
        grid((["method", "setting"], [[m, f"`{s}`"] for m, s in about["settings"].items()])),
        *(
            f"**Figure {number}.** {caption}\n\n![Figure {number}]({name})"
            for number, (name, caption) in enumerate(captions.items(), 1)
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _methods(about: dict[str, Any]) -> list[str]:
    scanner, modules = about["scanner"], ", ".join(about["modules"])
    beam = scanner["geometry"]
    lesions = (
        f" Lesions were set into slice {about['scan']['slice']} of a real scan: "
        f"{', '.join(about['scan']['lesions'])}."
        if about["scan"]
        else ""
    )
    return [
        f"**Scans.** Modules {modules} with pixels of {about['pixel_mm']:g} mm.{lesions} "
        f"{beam['kind']}, {beam['views']} views, {beam['bins']} bins, filter {scanner['filter']}; "
        f"{about['realisations']} realisations of each module at each dose, seed {about['seed']}. "
        "One energy, no scatter, no electronic noise. Line integrals of phantoms are exact.",
        "**Noise.** NPS: ICRU 87, equation 11.1, five regions of every realisation, the mean over "
        "realisations subtracted; its integral is the variance. Radial mean up to the Nyquist "
        "frequency; mean frequency weighted by the radial power (TG-233).",
        "**Resolution.** Radial edge of each insert in the mean over realisations, bins of a "
        "quarter of a pixel, tapered window of 6 mm to each side (Richard 2012, TG-233). A bead: "
        "the Fourier transform of its image over that of its disc.",
        "**Detectability.** CHO: 5 Laguerre-Gauss channels of width 2/3 of the diameter, mean of "
        "the region removed, 10 random halves for training and testing (conventions of LCD-CT, "
        "FDA). Intervals: images resampled 500 times. Signal-absent images are the same places in "
        "the uniform module. NPW and NPWE: TG-233; eye filter of peak 4 cycles a degree, life "
        "size, 500 mm.",
    ]


def _csv(kind: type, rows: Sequence[Any]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = [field.name for field in fields(kind)]
    writer.writerow(names)
    writer.writerows([getattr(row, name) for name in names] for row in rows)
    return out.getvalue()
