import math
import threading
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from volumes import nifti
from volumes.dataset import Case, find_cases
from volumes.errors import BadInput
from volumes.sampling.scanner_noise import LowDose, SparseView, refuse_unscannable
from volumes.storage.cache_folder import CacheFolder
from volumes.tomography.geometry import FanBeam
from volumes.tomography.photon_noise import Dose
from volumes.tomography.scanner import Acquisition, Scanner, circle
from volumes.volume import Volume
from volumes.window import Window

SCANNER = Scanner(FanBeam(60, 41, 35.0, 62.5))
LOW = LowDose(1e4, scanner=SCANNER)
SPARSE = SparseView(20, scanner=SCANNER)
LINEAR = Window(clip=False)


@pytest.fixture(scope="module", autouse=True)
def _tf(cpu):
    """Scanners need TensorFlow."""


@pytest.fixture
def volume(phantom_hu, tmp_path):
    hu = phantom_hu[:6, 16:48, 16:48]
    return Volume(hu, (3.0, 8.0, 8.0), "case", "ab" * 32, kept=CacheFolder(tmp_path / "sinograms"))


def rng(i=0):
    return np.random.default_rng(i)


def example(noise, volume, slices=(2, 3), seed=0, i=7):
    return noise.example(volume, slices, rng(i), seed, i)


def by_hand(volume, index, acquisition, key, seed=0, scanner=SCANNER):
    (image,) = scanner.scan(
        scanner.project(volume.hu[index], 8.0), [acquisition], seed, key, index
    )  # fmt: skip
    return np.rint(image.hu).astype(np.int16)


# -- Examples --------------------------------------------------------------------------------------


def test_an_example_equals_the_scan_of_its_slices(volume):
    found = example(LOW, volume)
    for slice_, index in zip(found, (2, 3), strict=True):
        wanted = by_hand(volume, index, Acquisition(Dose(1e4)), 7)
        np.testing.assert_array_equal(slice_, wanted)


def test_a_sparse_example_is_a_scan_of_its_views_alone(volume):
    few = replace(SCANNER, geometry=SCANNER.geometry.every(3))
    wanted = by_hand(volume, 2, Acquisition(Dose(1e6)), 7, scanner=few)
    np.testing.assert_array_equal(example(SPARSE, volume)[0], wanted)


@pytest.mark.parametrize("noise", [LOW, SPARSE, LowDose((1e3, 1e6), scanner=SCANNER)], ids=str)
def test_an_example_is_a_function_of_seed_and_number(volume, noise):
    one = example(noise, volume)
    np.testing.assert_array_equal(example(noise, volume), one)
    np.testing.assert_array_equal(example(noise, volume, (3, 2))[::-1], one)
    for other in ({"seed": 1}, {"i": 8}):
        assert (example(noise, volume, **other) != one).mean() > 0.5


def test_the_noise_of_an_example_is_not_that_of_a_case(volume):
    case = by_hand(volume, 2, Acquisition(Dose(1e4)), volume.case)
    assert (example(LOW, volume)[0] != case)[circle((32, 32))].mean() > 0.9


def test_threads_make_the_same_examples(volume):
    """Six examples in parallel, from slices that are not cached yet."""
    found = {}

    def make(i):
        found[i] = example(LOW, volume, (i % 3, 3), i=i)

    threads = [threading.Thread(target=make, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(6):
        np.testing.assert_array_equal(found[i], example(LOW, volume, (i % 3, 3), i=i))


def test_photons_are_drawn_evenly_in_their_logarithm():
    noise, draws = LowDose((1e4, 1e6)), rng()
    photons = np.log10([noise.drawn(draws).dose.photons for _ in range(2000)])
    assert stats.kstest(photons, "uniform", (4, 2)).pvalue > 1e-3
    assert noise.acquisition.dose.photons == pytest.approx(1e5)


def test_one_dose_is_itself():
    assert LowDose(7e4).drawn(rng()) == LowDose(7e4).acquisition == Acquisition(Dose(7e4))
    assert SparseView(60).drawn(rng()) == SparseView(60).acquisition == Acquisition(Dose(1e6), 60)


# -- Cases -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [LOW, SPARSE], ids=str)
def test_a_case_has_the_noise_of_its_name_slice_and_seed(volume, noise):
    clean = LINEAR.unit(noise.reference(volume, slice(None)))
    whole = noise.noisy(volume, clean, LINEAR, seed=3)
    for index in (0, 4):
        wanted = by_hand(volume, index, noise.acquisition, "case", seed=3)
        np.testing.assert_array_equal(whole[index], LINEAR.unit(wanted))
    np.testing.assert_array_equal(noise.noisy(volume, clean[2:4], LINEAR, 3, 2), whole[2:4])


def test_the_reference_is_air_outside_of_the_circle(volume):
    bright = replace(volume, hu=np.full_like(volume.hu, 700))
    found = LOW.reference(bright, slice(None))
    assert (found[:, circle((32, 32))] == 700).all()
    assert (found[:, ~circle((32, 32))] == -1000).all()
    assert found.dtype == np.int16


def test_padding_is_air_under_noise(volume):
    mask = np.zeros(volume.hu.shape, bool)
    mask[3, 10:14, 5:20] = True
    padded = replace(volume, padded=np.packbits(mask, axis=-1))
    found, plain = example(LOW, padded), example(LOW, volume)
    assert (found[1][mask[3]] == -1000).all()
    np.testing.assert_array_equal(found[~mask[2:4]], plain[~mask[2:4]])


def test_values_beyond_int16_are_clipped(volume):
    minute = replace(volume, spacing_mm=(3.0, 0.001, 0.001))  # noise a millimetre is immense
    found = example(LowDose(100.0, scanner=SCANNER), minute)
    assert (found.min(), found.max()) == (-32768, 32767)


# -- Refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize("photons", [0, -1, math.nan, math.inf, (2e5, 7e4), (0, 1e5), (1e4, 1e16)])
def test_impossible_photons_are_refused(photons):
    with pytest.raises(ValueError, match="photons"):
        LowDose(photons)


@pytest.mark.parametrize("views", [0, 7, 901, -60])
def test_views_that_would_not_be_even_are_refused(views):
    with pytest.raises(ValueError, match=f"900 views cannot be thinned evenly to {views}"):
        SparseView(views)


def test_a_scan_of_square_pixels_can_be_scanned_and_others_cannot(tmp_path, photographs, pairs):
    hu = np.zeros((2, 8, 8), np.int16)
    for name, spacing_mm in (("square", (3.0, 0.8, 0.8)), ("flat", (3.0, 0.8, 0.7))):
        nifti.write_hu(tmp_path / f"{name}.nii", hu, spacing_mm)
    refuse_unscannable(Case("square", tmp_path / "square.nii"))
    with pytest.raises(BadInput, match=r"pixels of 0\.8 x 0\.7 mm"):
        refuse_unscannable(Case("flat", tmp_path / "flat.nii"))
    for data in (photographs, pairs):
        with pytest.raises(BadInput, match="holds no scan that could be scanned again"):
            refuse_unscannable(find_cases(data)[0])
