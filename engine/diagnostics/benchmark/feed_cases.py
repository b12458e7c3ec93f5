"""The cases of the benchmark of the feed: phantoms of one depth, compressed and in a store."""

from __future__ import annotations

import gc
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from volumes import Crop, Gaussian, NeighbourMean, nifti, random_draws
from volumes.boxes import Box
from volumes.dataset import find_cases
from volumes.dataset.store import Store
from volumes.phantoms.abdomen import abdomen
from volumes.sampling.examples import Examples
from volumes.storage.mapped_array import mapped_array
from volumes.volume import HU, Volume

BATCH = 2
CROP = Crop((32, 256, 256), central=0.8)
_COPIED = 96  # crops, all different: those of one deep case would stay in the cache
_DRAWN = 8  # slices of the phantom; deeper cases repeat them, with noise moved about
_SIGMA_HU = 20.0
# Together the cases exceed the processor's caches, as a data set does.
_BYTES, _MOST_CASES = 192 * 2**20, 24


@dataclass
class FeedCases:
    """Scans of one depth. Their arrays in the store are mapped until `forget`.

    Attributes:
        folder: of the files and of the store.
        depth: slices of each scan.
        crop: what is cut from them, with the slices of a prior above and below.
    """

    folder: Path
    depth: int
    crop: Crop
    prior: NeighbourMean = field(default_factory=NeighbourMean)
    volumes: list[Volume] = field(default_factory=list)

    def write(self, plane: int) -> None:
        """Writes the scans, of `plane` x `plane` pixels a slice."""
        rng = random_draws.rng(0, "bench", self.depth)
        drawn, spacing_mm = abdomen((_DRAWN, plane, plane), rng=random_draws.rng(0, "phantom", 0))
        noise_hu = np.rint(_SIGMA_HU * rng.standard_normal(drawn.shape, np.float32))
        noise_hu = noise_hu.astype(np.int16)
        count = int(np.clip(_BYTES // (self.depth * drawn[0].nbytes), 1, _MOST_CASES))
        for number in range(count):
            hu = np.empty((self.depth, plane, plane), np.int16)
            for z in range(self.depth):
                moved = np.roll(noise_hu[z % _DRAWN], rng.integers(plane, size=2), (0, 1))
                hu[z] = drawn[z % _DRAWN] + moved
            folder = self.folder / "scans" / f"case_{number:05d}"
            folder.mkdir(parents=True)
            nifti.write_hu(folder / "imaging.nii.gz", hu, spacing_mm)

    @property
    def files(self) -> list[Path]:
        """The compressed scans."""
        return sorted((self.folder / "scans").glob("*/imaging.nii.gz"))

    def convert(self) -> None:
        """Converts the scans into arrays of the store, and maps these."""
        store = Store(self.folder / "store")
        self.volumes = [store.volume(case) for case in find_cases(self.folder / "scans")]

    def forget(self) -> None:
        """Drops the arrays of the store from the memory, so that they come from the disk."""
        self.volumes = []
        gc.collect()  # what is mapped stays in the page cache
        for path in self._arrays():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        self.volumes = [
            Volume(mapped_array(path), (3.0, 0.8, 0.8), path.stem, "") for path in self._arrays()
        ]

    def examples(self, *, flips: bool) -> Examples:
        """The examples of a training on these scans."""
        crop = replace(self.crop, flips=flips)
        return Examples(self.volumes, crop, Gaussian(), self.prior, seed=0)

    def prepared(self) -> list[tuple[HU, Box]]:
        """What a plain copy of the first crops needs: arrays that hold their voxels, and boxes."""
        examples, arrays, found = self.examples(flips=False), dict[str, HU](), []
        for i in range(_COPIED):
            cut, case = examples[i].clean, examples[i].case
            hu, box = deep_enough(cut.hu, cut.box)
            found.append((arrays.setdefault(case, hu), box))
        return found

    def _arrays(self) -> list[Path]:
        found = (self.folder / "store").glob("*/*.npy")
        return sorted(path for path in found if "padding" not in path.name)


def deep_enough(hu: HU, box: Box) -> tuple[HU, Box]:
    """An array that is at least as deep as a box, by reflection, and the box moved into it."""
    missing = max(0, box.shape[0] - len(hu))
    if missing:
        hu = np.pad(hu, ((missing, missing), (0, 0), (0, 0)), "reflect")
    z, y, x = box.start
    first = min(max(z + missing, 0), len(hu) - box.shape[0])
    return np.asarray(hu), Box((first, y, x), box.shape)
