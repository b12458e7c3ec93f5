"""Slice-wise simulation: makes the products of one scan, one slice at a time."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.simulation.degradation import SCANNER
from engine.simulation.degraded_file import Product
from volumes.nifti import Scan, Stored
from volumes.padding import NEVER_MEASURED_HU, padding
from volumes.sampling.additive_noise import AdditiveNoise
from volumes.storage.atomic import cannot_write
from volumes.tomography.scanner import Image, Sinogram, circle, pixel_mm
from volumes.volume import AIR_HU
from volumes.window import Window

Slice = npt.NDArray[np.float32]


def make(
    scan: Scan, case: str, products: Sequence[Product], seed: int, machine: dict[str, Any], *,
    overwrite: bool, tick: Callable[[int], None] = lambda done: None,
) -> list[Counter[str]]:  # fmt: skip
    """Makes products of a scan; each slice is projected once for all of them.

    Padding keeps its bits and is projected as air. Voxels outside the scanner's circle become air,
    also in the reference.

    Args:
        scan: the clean scan.
        case: its name, a key of the noise.
        products: of added noise or of a scanner, not of both.
        seed: of the noise.
        machine: TensorFlow and devices, for the sidecars.
        overwrite: whether existing files are replaced.
        tick: called with the number of finished slices.

    Returns:
        Counts for each product: saturated voxels, and for a scanner the rays without photons.

    Raises:
        BadInput: if the scan cannot be read.
        CannotWrite: if a product exists or cannot be written.
    """
    source = scan.read()
    view = scan.canonical(source)
    padded = padding(view, scan.hu)
    with ExitStack() as stack:
        drafts = [stack.enter_context(_Draft(product)) for product in products]
        largest = 0.0
        for z in range(scan.shape[0]):
            hu = scan.hu(view[z])
            measured = ~padded[z]
            clean = np.where(measured, hu, np.float32(AIR_HU))
            sinogram = _sinogram(products, clean, scan)
            if sinogram:
                largest = max(largest, sinogram.largest)
            for draft, image in zip(drafts, _images(products, clean, sinogram, seed, case, z),
                                    strict=True):  # fmt: skip
                draft.add(image, measured)
            tick(z + 1)
        about: dict[str, Any] = {"seed": seed, "case": case, **scan.source()}
        about["warnings"] = list(scan.warnings)
        if any(_scanned(product) for product in products):
            about |= {"max_line_integral": round(largest, 4), "computed_on": machine}
        return [draft.finish(scan, source, about, overwrite=overwrite) for draft in drafts]


def _scanned(product: Product) -> bool:
    return product.degradation is not None and product.degradation.acquisition is not None


def _sinogram(products: Sequence[Product], clean: Slice, scan: Scan) -> Sinogram | None:
    if any(_scanned(product) for product in products):
        return SCANNER.project(clean, pixel_mm(scan))
    return None


def _images(
    products: Sequence[Product], clean: Slice, sinogram: Sinogram | None, seed: int, case: str,
    z: int,
) -> list[Image]:  # fmt: skip
    """A slice of every product, in the order of the products."""
    degradations = [product.degradation for product in products if product.degradation]
    acquisitions = [d.acquisition for d in degradations if d.acquisition]
    scanned = iter(SCANNER.scan(sinogram, acquisitions, seed, case, z) if sinogram else ())
    images = []
    for product in products:
        if product.degradation is None:
            seen = circle(clean.shape) if product.circle else True
            images.append(Image(np.where(seen, clean, np.float32(AIR_HU)), 0, 0, 0))
        elif added := product.degradation.added:
            images.append(Image(_noisy(clean, added, seed, case, z), 0, 0, 0))
        else:
            images.append(next(scanned))
    return images


def _noisy(clean: Slice, noise: AdditiveNoise, seed: int, case: str, z: int) -> Slice:
    window = Window()
    # Padding is not written, so its value here does not matter.
    unit = window.unit(clean)[None]
    return window.hu(noise.degrade(unit, noise.typical, seed, case, first=z)[0])


class _Draft:
    """A product in progress; its slices are in a temporary file in the output folder."""

    def __init__(self, product: Product) -> None:
        self._product = product
        self._counts: Counter[str] = Counter()

    def __enter__(self) -> _Draft:
        try:
            self._slices = tempfile.TemporaryFile(dir=self._product.path.parent)
        except OSError as error:
            raise cannot_write(self._product.path, error) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._slices.close()

    def add(self, image: Image, measured: npt.NDArray[np.bool_]) -> None:
        """Adds the next slice. Voxels that were not measured keep their value."""
        self._counts += Counter(rays=image.rays, starved=image.starved, floored=image.floored)
        self._counts["like_padding"] += int((image.hu[measured] <= NEVER_MEASURED_HU).sum())
        values = np.where(measured, image.hu, np.float32(np.nan))
        try:
            self._slices.write(values.astype(np.float32).tobytes())
        except OSError as error:
            raise cannot_write(self._product.path, error) from error

    def finish(
        self, scan: Scan, source: Stored, about: dict[str, Any], *, overwrite: bool
    ) -> Counter[str]:
        """Writes the file and its sidecar."""
        after = source.copy(order="K")
        view = scan.canonical(after)
        self._slices.seek(0)
        for slice_ in view:
            size = 4 * slice_.size
            wanted = np.frombuffer(self._slices.read(size), np.float32).reshape(slice_.shape)
            # Unchanged voxels keep their bits: they are not rounded to the datatype again.
            moved = np.isfinite(wanted) & (wanted != scan.hu(slice_))
            values, saturated = scan.stored(wanted[moved])
            slice_[moved] = values
            self._counts["saturated"] += saturated
        self._product.write(scan, after, about, self._counts, overwrite=overwrite)
        return self._counts
