"""Noise and scores: what is scored is what the files hold."""

from __future__ import annotations

from pathlib import Path
from random import Random

import nibabel as nib
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from engine.scoring.case_images import case_images
from engine.scoring.metrics import scores
from engine.simulation.degrade import degrade
from tests.gates.ledger import Faults
from volumes.dataset import Case
from volumes.dataset.store import Store
from volumes.sampling.coloured_noise import Coloured
from volumes.sampling.noise import Gaussian
from volumes.window import Window


def scan(draw: Random) -> np.ndarray:
    """(Z, Y, X) HU of a body, with any of: measured air, bone, metal, and padding around it."""
    rng = np.random.default_rng(draw.randrange(2**32))
    y, x = np.mgrid[-1:1:40j, -1:1:48j]
    hu = np.full((3, 40, 48), -1000.0)
    hu[:, (y / 0.6) ** 2 + (x / 0.7) ** 2 < 1] = draw.choice([-80, 0, 40, 90])
    hu[:, (y - 0.3) ** 2 + x**2 < 0.03] = draw.choice([300, 399, 401, 900, 3000])
    hu += rng.normal(0, draw.choice([2, 8, 20]), hu.shape)
    if (outside := draw.choice([None, -1024, -2000, -3024])) is not None:
        hu[:, y**2 + x**2 > draw.choice([0.8, 1.0, 1.2])] = outside
    return hu


@pytest.mark.gate("G17")
def test_the_noisy_image_scores_as_the_file_that_degrade_writes(
    faults: Faults, tmp_path: Path, cpu
) -> None:
    store, window = Store(tmp_path / "store"), Window()
    for n in range(faults.times(push=25, soak=600)):
        draw = faults.random(n)
        hu = scan(draw)
        dtype = draw.choice([np.int16, np.float32])
        stored = (np.rint(hu) if dtype is np.int16 else hu).astype(dtype)
        place = tmp_path / f"case_{n}.nii.gz"
        affine = np.array([[0, 0, -0.7, 0], [0, -0.7, 0, 0], [-2, 0, 0, 0], [0, 0, 0, 1.0]])
        nib.save(nib.Nifti1Image(stored, affine), place)
        sigma = draw.choice([0.01, 0.05, 0.1, 0.2])
        noise = draw.choice([Gaussian(sigma), Coloured(sigma, 0.5, 0.3), Coloured(sigma, 1.0, 0.2)])
        written = tmp_path / f"noisy_{n}.nii.gz"
        degrade(place, written, noise, 0, overwrite=False)
        images = case_images(store.volume(Case(f"case_{n}", place)), noise, window)
        found = scores(images.clean, images.noisy, window).psnr_db
        clean, noisy = (
            np.clip((nib.load(path).get_fdata() + 1000) / 1400, 0, 1) for path in (place, written)
        )
        assert found == pytest.approx(peak_signal_noise_ratio(clean, noisy, data_range=1), abs=0.01)
        faults.handled()
