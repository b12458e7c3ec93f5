"""Pictures: figures and pages that show a denoised scan beside its input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from engine.denoising.denoise import Denoised
from engine.plots import Place, Planes, planes
from engine.report.page import heading, page
from engine.report.results import Stack, shown_slices
from engine.report.viewer import viewer
from volumes.dataset import case_name
from volumes.nifti import Stored
from volumes.storage.atomic import replace_text
from volumes.volume import Unit
from volumes.window import Window


def draw_planes(denoised: Denoised, path: Place, window: Window) -> None:
    """Draws the middle planes of input, output and residual as PNG.

    Raises:
        CannotWrite: if it cannot be written.
    """
    before, after = (_planes(denoised, stored) for stored in (denoised.before, denoised.after))
    residual = Planes(*(was - became for was, became in zip(before, after, strict=True)))
    depth = denoised.scan.shape[0]
    title = f"{case_name(denoised.scan.path)}, slice {depth // 2} (0 to {depth - 1})"
    images = {"input": before, "denoised": after}
    planes(path, images, residual, denoised.scan.spacing_mm, title, window)


def write_page(denoised: Denoised, path: Path, window: Window) -> None:
    """Writes an HTML page with a viewer of input and output. An existing file is replaced.

    Raises:
        CannotWrite: if it cannot be written.
    """
    scan = denoised.scan
    depth = scan.shape[0]
    of = shown_slices(depth, depth // 2)
    images = {
        shown: np.stack([_hu(denoised, stored, np.s_[z]) for z in of])
        for shown, stored in (("input", denoised.before), ("denoised", denoised.after))
    }
    stack = Stack(of, depth, scan.spacing_mm, images)
    name = case_name(scan.path)
    body = f"<h1>{heading(name)}</h1>\n{viewer({name: stack}, window, noisy='input')}"
    replace_text(path, page(name, body))


def _planes(denoised: Denoised, stored: Stored) -> Planes:
    z, y, x = (n // 2 for n in denoised.scan.shape)
    return Planes(*(_hu(denoised, stored, at) for at in (np.s_[z], np.s_[:, y], np.s_[:, :, x])))


def _hu(denoised: Denoised, stored: Stored, at: Any) -> Unit:
    """A plane of a stored array in HU; 0 where it is not finite."""
    return np.nan_to_num(denoised.scan.hu(denoised.scan.canonical(stored)[at]))
