"""Ensembles: the noise of filtered back-projection is that of theory; lesions are in the slice."""

import numpy as np
import pytest

from engine.characterization.ensembles import Module, lesion_slice, phantom_module
from engine.scoring.noise_power import noise_power
from volumes.phantoms.rods import Rod, RodPhantom
from volumes.tomography.geometry import Parallel
from volumes.tomography.scanner import Acquisition, Scanner, Sinogram

VIEWS, BINS, PHOTONS, SIZE = 180, 131, 1e4, 96


@pytest.fixture(scope="module", autouse=True)
def _tf(cpu):
    """Scanners need TensorFlow."""


def test_the_noise_of_ram_lak_rises_with_frequency_as_theory_says() -> None:
    scanner = Scanner(geometry=Parallel(VIEWS, BINS))
    nothing = Sinogram(
        np.zeros((VIEWS, BINS), np.float32), scanner.geometry.seeing(SIZE), 1.0, (SIZE, SIZE)
    )
    air = np.full((SIZE, SIZE), -1000, np.float32)
    module = Module("nothing", nothing, air, np.ones((SIZE, SIZE), bool), 1.0)
    stack = module.scanned(scanner, PHOTONS, 40, seed=0).stack_hu
    found = noise_power(stack[:, 24:72, 24:72] - stack.mean(axis=0)[24:72, 24:72], (1, 1), None)
    frequency, power = found.radial
    # Riederer, Pelc and Chesler, Phys. Med. Biol. 23 (1978): pi / views * bin * variance of a ray *
    # f, times the square of the interpolation, sinc^2. A ray of n photons has the variance 1 / n.
    ray = 1 / PHOTONS * (1000 / scanner.mu_water_per_mm) ** 2
    theory = np.pi / VIEWS * nothing.geometry.bin_width * ray * frequency * np.sinc(frequency) ** 4
    # Higher frequencies are folded back by the pixels, lower ones are one ring wide. A ring holds
    # 40 regions of 20 or more independent values: 4 standard errors are 14 %, the first has 4.
    part = (frequency > 0.06) & (frequency < 0.38)
    np.testing.assert_allclose(power[part], theory[part], rtol=0.14)
    # At frequency 0 there is what the region's ends leak from its neighbours, 15 % of the maximum.
    assert found.power_hu2_mm2[24, 24] < 0.3 * power.max()


def test_realisations_differ_by_their_noise_alone() -> None:
    scanner = Scanner(geometry=Parallel(60, 101), filter="hann")
    module = phantom_module(RodPhantom("water", 50.0), scanner, 1.0)
    assert module.true_hu.shape == (64, 64)
    one, again, other = (
        module.scanned(scanner, 1e4, 3, seed).stack_hu for seed in (0, 0, 1)
    )  # fmt: skip
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one[0], one[1])
    assert not np.array_equal(one, other)


def test_lesions_are_in_one_of_two_slices_with_their_contrast() -> None:
    y, x = np.mgrid[:120, :128] - 59.5
    body = np.where(np.hypot(x - 4, y) < 56, 60, -1000).astype(np.float32)
    scanner = Scanner(geometry=Parallel(120, 135), filter="hann")
    made = lesion_slice(body, 2.0, scanner)
    assert made.absent.true_hu.shape == (128, 128)
    clean = [
        scanner.scan(module.sinogram, [Acquisition(None)], 0, "x", 0)[0].hu
        for module in (made.present, made.absent)
    ]
    added = clean[0] - clean[1]
    for rod in made.lesions:
        inside = rod.distance_mm(128, 2.0) < 0.5 * rod.radius_mm
        # Half of the radius of the smallest is less than a pixel: its blur takes a quarter.
        assert added[inside].mean() == pytest.approx(rod.hu, rel=0.35)
    beside = np.min([rod.distance_mm(128, 2.0) for rod in made.lesions], axis=0) > 20
    assert abs(added[beside]).max() < 1.0


def test_the_noise_of_a_module_is_known_by_its_body() -> None:
    scanner = Scanner(geometry=Parallel(60, 101), filter="hann")
    module = phantom_module(RodPhantom("water", 50.0, (Rod("air", 0, 0, 10, -1000),)), scanner, 1.0)
    ensemble = module.scanned(scanner, 1e4, 6, 0)
    expected = np.sqrt(ensemble.stack_hu[:, module.body].var(axis=0, ddof=1).mean())
    assert ensemble.sigma_hu == pytest.approx(expected, rel=1e-4)
    assert module.true_hu[32, 32] == -1000
