"""Degrading: a clean scan in, the same scan with simulated noise out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from engine.outputs import refuse_existing, sidecar
from engine.refusals import BadUsage
from volumes import nifti
from volumes.atomic import whole_file
from volumes.dataset import case_name
from volumes.noise import Gaussian
from volumes.padding import padding
from volumes.window import Window


def parse(text: str) -> Gaussian:
    """The degradation that `--as` names, such as `gaussian:0.1`.

    Raises:
        BadUsage: where it names none.
    """
    kind, _, value = text.partition(":")
    try:
        if kind == "gaussian":
            return Gaussian(sigma=float(value))
    except ValueError as error:
        raise BadUsage("--as", f"{text!r}: {error}", "Write such as gaussian:0.1") from error
    cause = f"knows no degradation {kind!r}"
    raise BadUsage("--as", cause, "Use gaussian:SIGMA, a fraction of the window such as 0.1")


def degrade(path: Path, output: Path, noise: Gaussian, seed: int, *, overwrite: bool) -> int:
    """Adds noise to a scan; padding and header stay as they are.

    Sigma is a fraction of the reference's window, [-1000, 400] HU; nothing is clipped to it. The
    noise depends on (seed, case, slice).

    Returns:
        How many voxels the file's datatype had to saturate.

    Raises:
        BadInput: where the scan cannot be read.
        CannotWrite: where the output exists or the system refuses.
    """
    window = Window()
    scan = nifti.open_scan(path)
    refuse_existing((output, sidecar(output)), overwrite=overwrite)
    stored = scan.read()
    view = scan.canonical(stored)
    case = case_name(path)
    saturated = 0
    for z in range(scan.shape[0]):
        hu = scan.hu(view[z : z + 1])
        measured = ~padding(hu)
        clean = window.unit(np.where(measured, hu, 0))
        noisy = window.hu(noise.degrade(clean, noise.typical, seed, case, first=z))
        values, count = scan.stored(noisy[measured])
        view[z : z + 1][measured] = values
        saturated += count
    nifti.write_like(scan, stored, output, overwrite=overwrite)
    about: dict[str, Any] = {
        "degradation": {"kind": "gaussian", "sigma": noise.typical},
        "sigma_hu": noise.typical * window.width_hu,
        "seed": seed,
        "case": case,
        "saturated_voxels": saturated,
    }
    with whole_file(sidecar(output), overwrite=overwrite) as file:
        file.write((json.dumps(about, indent=2) + "\n").encode())
    return saturated
