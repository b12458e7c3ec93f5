"""Markdown report of a comparison, in the form of a paper's supplement."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from engine.report import tables
from engine.report.results import Picture
from engine.report.summary import Entries, about_p, harm, left_out
from engine.scoring.tissue_classes import TISSUE_HU
from volumes.errors import one_line
from volumes.window import Window

# Demo notebook of ResPr-UNet-3D-Denoising-Efficient-Pipeline-TF-keras (Abascal et al., 2020).
_REFERENCE = (
    ("CNN2", "4.12", "0.7253"),
    ("CNN7", "3.16", "0.8089"),
    ("2D U-Net", "3.05", "0.8206"),
    ("3D U-Net", "2.87", "0.8585"),
)

# Results of github.com/npovey/unet15, whose networks are those of lowdose_* and sparseview_*.
_STUDY = (
    ("sparse_view-60", "33.28", "0.8858", "32.30", "0.8560"),
    ("sparse_view-90", "35.42", "0.9038", "35.13", "0.8892"),
    ("sparse_view-180", "39.48", "0.9319", "39.77", "0.9341"),
    ("low_dose-7e4", "41.78", "0.9429", "42.00", "0.9444"),
    ("low_dose-1e5", "42.11", "0.9441", "42.32", "0.9456"),
    ("low_dose-2e5", "42.69", "0.9466", "42.87", "0.9477"),
)

Captioned = tuple[str, tables.Table]


def markdown(
    about: dict[str, Any], entries: Entries, drawn: dict[Path, Picture], *, spectra: bool = False
) -> str:
    """The text of a report: methods, then captioned tables and figures.

    Args:
        about: description of the comparison.
        entries: its summary.
        drawn: the pictures by the path of their figure.
        spectra: whether spectra of the noise were drawn.
    """
    cases = len(about["cases"])
    high = about["data_range"]["high_hu"]
    over = f"mean ± standard deviation over {cases} {'case' if cases == 1 else 'cases'}"
    parts = [
        "# Comparison of denoising methods",
        *_methods(about),
        f"**Table 1.** Scores of each method, {over}. Gain: PSNR less that of the untouched scan, "
        "paired by case, with its 95 % bootstrap interval over cases. Bias: mean of estimate - "
        f"clean where the clean image is in the window. {about_p(entries)}",
        grid(tables.scores(entries, Window(**about["data_range"]).unit_name)),
        *harm(entries),
        *left_out(entries),
        *(
            f"{name} is given the clean image: an upper bound, not a method."
            for name in about["oracles"]
        ),
        *(_of_windows(entries, over, high) if "psnr_lung_db" in entries[0] else []),
        f"**Table 3.** Structure of the residual (noisy - estimate) where the clean image is "
        f"in the window, {over}; without unit.",
        "- Autocorrelation: correlation of neighbouring voxels within slices. It is 0 if only "
        "white noise was removed.\n- At edges: correlation of the residual's magnitude with the "
        "gradient of the clean image. It is 0 if the residual contains no anatomy; above 0, "
        "anatomy was removed; below 0, noise was left at edges.",
        grid(tables.residuals(entries)),
        "**Table 4.** Settings of each method.",
        grid(_settings(about)),
        *_numbered(
            5,
            *(_attenuation(entries, over) if tables.attenuation(entries)[1] else []),
            *([_published()] if about["protocol"] == "reference" else []),
            *([_fidelity(entries, over, high)] if tables.fidelity(entries)[1] else []),
        ),
        *_figures(drawn, spectra, several=len({entry["level"] for entry in entries}) > 1),
    ]
    return "\n\n".join(parts) + "\n"


def _of_windows(entries: Entries, over: str, high_hu: float) -> list[str]:
    return [
        f"**Table 2.** PSNR (dB) of what radiologists' display windows show, {over}. The data "
        f"range is the width of each display window. Clean images are cut at {high_hu:g} HU, so "
        "denser anatomy is not scored. The last column is the RMSE where the clean image is in "
        "[-160, 240] HU.",
        grid(tables.windows(entries)),
    ]


def _fidelity(entries: Entries, over: str, high_hu: float) -> Captioned:
    ranges = "; ".join(
        f"{name.replace('_', ' ')} {_range(low, high)}" for name, (low, high) in TISSUE_HU.items()
    )
    return (
        f"HU fidelity, {over}. Shift: mean of estimate - clean in each tissue class, which the "
        f"clean scan tells apart ({ranges}), up to {high_hu:g} HU. Crossing: share of the voxels "
        "within the patient that lie on another side of a threshold than in the clean scan. Scores "
        "of calcium count voxels above 130 HU, those of emphysema voxels below -950 HU.",
        tables.fidelity(entries),
    )


def _range(low_hu: float, high_hu: float) -> str:
    if math.isinf(low_hu):
        return f"below {high_hu:g} HU"
    return f"from {low_hu:g} HU" if math.isinf(high_hu) else f"{low_hu:g} to {high_hu:g} HU"


def _numbered(first: int, *captioned: Captioned) -> list[str]:
    """Optional tables, with the next free numbers."""
    parts = []
    for number, (caption, content) in enumerate(captioned, first):
        parts += [f"**Table {number}.** {caption}", grid(content)]
    return parts


def _attenuation(entries: Entries, over: str) -> list[Captioned]:
    """Scores as in a study of low-dose and sparse-view CT, and its published results."""
    return [
        (
            f"Scores of attenuation at levels of simulated scanners, {over}. PSNR and SSIM of each "
            "slice with the range from 0 to the largest attenuation of its clean image, mean over "
            "slices; nothing is clipped to the window. SSIM: Gaussian 11 x 11, sigma 1.5, over the "
            "whole slice, its edges repeated.",
            tables.attenuation(entries),
        ),
        (
            "Published by the study of low-dose and sparse-view CT on its own 354 test slices of "
            "QIN Lung CT, one network trained for each level. The test data differ, so do not "
            "compare these values directly with Table 5.",
            (
                ["noise", "U-Net: PSNR (dB)", "SSIM", "DnCNN: PSNR (dB)", "SSIM"],
                [list(row) for row in _STUDY],
            ),
        ),
    ]


def _published() -> Captioned:
    """Results that the reference published with this protocol on its own test crops."""
    return (
        "Published by the reference at 10% noise on its own two test patients of KiTS19. The "
        "test data differ, so do not compare these values directly with Table 1.",
        (["network", "relative L2 (%)", "SSIM"], [list(row) for row in _REFERENCE]),
    )


def _methods(about: dict[str, Any]) -> list[str]:
    low, high = about["data_range"]["low_hu"], about["data_range"]["high_hu"]
    cases, unit = about["cases"], Window(**about["data_range"]).unit_name
    levels = "; ".join(f"{label}: {text}" for label, text in about["levels"].items())
    tuned = one_line(", ".join(about["tuned_on"]))
    if not tuned:
        tuned = "Classical methods were not tuned and have their default parameters."
    elif about.get("tuning") == "scored":
        tuned = (
            "Classical methods were tuned for least mean squared error on the scored cases, with "
            "the clean image known: the best that they can give."
        )
    else:
        tuned = f"Classical methods were tuned for least mean squared error on {tuned}."
    prior = ", ".join(f"{name} {value}" for name, value in about["prior"].items())
    return [
        f"**Cases.** {len(cases)} ({about['split']}): {one_line(', '.join(cases))}. The SHA-256 of "
        f"their files is in report.json. Scored: {_scored(about)}.",
        f"**Noise.** {levels}. Simulated noise has seed {about['noise_seed']}. The noise of a "
        "slice depends only on seed, case and slice, so it is the same for every method, and that "
        f"of files that `engine degrade` writes. {_added(about)}",
        f"**Scores.** Data range: the window [{low:g}, {high:g}] {unit}, {high - low:g} wide, to "
        "which clean image and estimate are clipped (not for the bias). PSNR, RMSE and relative "
        "L2, 100 ||estimate - clean|| / ||clean||, are those of all scored voxels of a case. "
        "Padding, which no scanner measured, counts as air in all images. SSIM is that of the same "
        f"images: {about['ssim']}, mean over slices.",
        f"**Parameters.** {tuned} Prior of classical methods, unless another is named: mean of "
        f"neighbouring slices, {prior}.",
    ]


def _added(about: dict[str, Any]) -> str:
    if about["protocol"] == "reference":
        return "Noise is added to images that are clipped to the window, as by the reference."
    return "Padding has no noise. Noisy images are clipped to the range that networks know."


def _scored(about: dict[str, Any]) -> str:
    if about["protocol"] == "reference":
        return "the first slice of a central crop of 32 x 256 x 256 voxels"
    if about["slices"] == "all":
        return "all slices of the whole volumes"
    return f"{about['slices']} slices about the middle of each volume"


def _settings(about: dict[str, Any]) -> tables.Table:
    rows = [
        [name, level, f"`{setting}`"]
        for level, chosen in about["settings"].items()
        for name, setting in chosen.items()
    ]
    return ["method", "noise", "setting"], rows


def _figures(drawn: dict[Path, Picture], spectra: bool, *, several: bool) -> list[str]:
    captions = {
        path.name: f"Middle of the scored slices of {one_line(picture.case)} at {picture.level} "
        "noise: each image whole, enlarged about its middle, and the residual."
        for path, picture in drawn.items()
    }
    captions["cases.png"] = (
        "PSNR (dB) of each case. Boxes: quartiles and median; dashed: mean of the untouched scan."
    )
    if several:
        captions["levels.png"] = (
            "Mean PSNR (dB) against noise. Below the dashed line a method is worse than its input."
        )
    if spectra:
        captions["noise_power.png"] = (
            "Noise power spectra of the first case: the noise that was added (dashed), and what "
            "each method removed. Below the dashed line noise is left, above it anatomy was "
            "removed. noise_power.csv holds the spectra of all cases."
        )
    return [
        f"**Figure {number}.** {caption}\n\n![Figure {number}]({name})"
        for number, (name, caption) in enumerate(captions.items(), 1)
    ]


def grid(content: tables.Table) -> str:
    """A table in Markdown: names on the left, numbers on the right."""
    columns, rows = content
    rule = "|---|" + "---:|" * (len(columns) - 1)
    escaped = ([one_line(cell).replace("|", r"\|") for cell in row] for row in (columns, *rows))
    lines = ["| " + " | ".join(row) + " |" for row in escaped]
    return "\n".join([lines[0], rule, *lines[1:]])
