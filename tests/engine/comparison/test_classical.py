"""The classical methods: one interface, one rule of tuning."""

import dataclasses
import sys
import types

import numpy as np
import pytest
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

from engine.comparison.classical import (
    BM3D,
    BM4D,
    METHODS,
    Noisy,
    NonLocalMeans,
    Prior,
    TotalVariation,
    tuned,
)
from engine.errors import BadUsage
from engine.scoring.metrics import scores
from volumes import Window

SIGMA = 0.1
SPACING_MM = (3.0, 0.8, 0.7)
WINDOW = Window()
OPTIONAL = {"bm3d": BM3D(), "bm4d": BM4D()}
ALWAYS = sorted(METHODS.keys() - OPTIONAL.keys())


@pytest.fixture(autouse=True)
def _tensorflow(cpu):
    """The scores and SPADE are TensorFlow's."""


@pytest.fixture(scope="module")
def clean(phantom_hu):
    return np.clip(WINDOW.unit(phantom_hu[3:9, 12:48, 14:46]), 0, 1)


@pytest.fixture(scope="module")
def noisy(clean):
    noise = np.random.default_rng(0).standard_normal(clean.shape, np.float32)
    noisy = clean + np.float32(SIGMA) * noise
    noisy.setflags(write=False)
    return noisy


@pytest.fixture
def package(monkeypatch):
    """Installs packages that halve the image and record their arguments."""

    def install(name):
        told = []

        def halve(image, sigma):
            told.append((image.shape, sigma))
            return image.astype(np.float64) / 2

        monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(**{name: halve}))
        return told

    return install


def estimate(method, noisy, prior=None, sigma=SIGMA):
    return method.estimate(noisy, sigma, SPACING_MM, prior)


def psnr_db(clean, estimate):
    return scores(clean, estimate, WINDOW).psnr_db


def test_every_method_has_its_name():
    assert set(METHODS) == {"noisy", "prior", "tv", "nlm", "bm3d", "bm4d", "spade"}
    for name, method in METHODS.items():
        assert method().name == name


@pytest.mark.parametrize("name", ALWAYS)
def test_an_estimate_has_the_form_of_the_volume_and_leaves_it_alone(name, noisy, clean):
    before = noisy.copy()
    found = estimate(METHODS[name](), noisy, clean)
    assert (found.shape, found.dtype) == (noisy.shape, np.float32)
    np.testing.assert_array_equal(noisy, before)


@pytest.mark.parametrize("method", [TotalVariation(), TotalVariation(0.5, True), NonLocalMeans()])
def test_a_denoiser_takes_most_of_the_noise_away(method, clean, noisy):
    assert psnr_db(clean, estimate(method, noisy)) > psnr_db(clean, noisy) + 5


@pytest.mark.parametrize("method", [TotalVariation(), NonLocalMeans()])
def test_a_method_of_slices_gives_a_slice_the_same_alone(method, noisy):
    np.testing.assert_array_equal(estimate(method, noisy)[1:2], estimate(method, noisy[1:2]))


def test_a_volumetric_method_sees_the_neighbours(noisy):
    method = TotalVariation(volumetric=True)
    assert np.abs(estimate(method, noisy)[1:2] - estimate(method, noisy[1:2])).max() > 0.01
    np.testing.assert_array_equal(
        estimate(method, noisy), denoise_tv_chambolle(noisy, weight=0.8 * SIGMA, eps=1e-5)
    )


def test_non_local_means_receives_the_noise_level(noisy):
    found = estimate(NonLocalMeans(0.5, 5, 4), noisy)
    expected = denoise_nl_means(noisy[0], 5, 4, 0.5 * SIGMA, fast_mode=True, sigma=SIGMA)
    np.testing.assert_array_equal(found[0], expected)


@pytest.mark.parametrize("method", [TotalVariation(), NonLocalMeans()])
def test_nothing_is_removed_where_there_is_no_noise(method, noisy):
    np.testing.assert_array_equal(estimate(method, noisy, sigma=0.0), noisy)


@pytest.mark.parametrize("method", [TotalVariation(), TotalVariation(volumetric=True)])
def test_parameters_are_multiples_of_sigma(method, noisy):
    twice = dataclasses.replace(method, weight=2 * method.weight)
    np.testing.assert_array_equal(estimate(method, noisy), estimate(twice, noisy, sigma=SIGMA / 2))


def test_noisy_and_prior_return_their_input(clean, noisy):
    np.testing.assert_array_equal(estimate(Noisy(), noisy, clean), noisy)
    np.testing.assert_array_equal(estimate(Prior(), noisy, clean), clean)


def test_no_prior_is_refused_where_it_is_the_estimate(noisy):
    with pytest.raises(BadUsage, match="prior: needs a prior"):
        estimate(Prior(), noisy)


@pytest.mark.parametrize("name", METHODS)
def test_candidates_are_many_or_the_method_itself_and_all_differ(name):
    method = METHODS[name]()
    grid = method.candidates()
    assert len({repr(each) for each in grid}) == len(grid)
    assert method in grid
    assert len(grid) > 1 or name in {"noisy", "prior"}


def test_candidates_keep_parameters_that_are_not_tuned():
    assert all(each.volumetric for each in TotalVariation(volumetric=True).candidates())


def given(noisy):
    """The arguments of a method for a case without a prior."""
    return noisy, SIGMA, SPACING_MM, None


def test_tuning_takes_the_candidate_that_scores_best(clean, noisy):
    pairs = [(clean, given(noisy)), (clean[:2], given(noisy[:2]))]
    method = TotalVariation()
    best = tuned(method, pairs)
    errors = {
        each: sum(scores(c, estimate(each, n), WINDOW).mse for c, (n, *_) in pairs)
        for each in method.candidates()
    }
    assert errors[best] == min(errors.values())
    assert best not in (method.candidates()[0], method.candidates()[-1])
    assert repr(best) == f"TotalVariation(weight={best.weight}, volumetric=False)"


def test_tuning_ignores_errors_beyond_the_window():
    clean, noisy = (np.full((2, 4, 4), value, np.float32) for value in (1.0, 3.0))

    @dataclasses.dataclass(frozen=True)
    class Shift:
        name = "shift"
        by: float = 0.0

        def candidates(self):
            return [Shift(-2.1), Shift(0.0)]

        def estimate(self, noisy, sigma, spacing_mm, prior):
            return noisy + np.float32(self.by)

    # 0.9 is closer to 1 than 3 is, but 3 clipped to the window is 1.
    assert tuned(Shift(), [(clean, given(noisy))]) == Shift(0.0)


def test_tuning_shows_every_case_its_own_prior(clean, noisy):
    seen = []

    @dataclasses.dataclass(frozen=True)
    class Watcher(Prior):
        by: int = 0

        def candidates(self):
            return [self, Watcher(1)]

        def estimate(self, noisy, sigma, spacing_mm, prior):
            seen.append((sigma, spacing_mm, prior is clean))
            return prior

    assert tuned(Watcher(), [(clean, (noisy, 0.05, SPACING_MM, clean))]) == Watcher()
    assert seen == [(0.05, SPACING_MM, True)] * 2


def test_a_method_without_candidates_needs_no_case():
    assert tuned(Noisy(), []) == Noisy()


def test_a_choice_without_a_case_is_an_error():
    with pytest.raises(ValueError, match="tv cannot be tuned without a validation case"):
        tuned(TotalVariation(), [])


@pytest.mark.parametrize("name", OPTIONAL)
def test_a_missing_package_is_refused_with_the_command_to_install_it(name, noisy, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BadUsage) as refusal:
        estimate(OPTIONAL[name], noisy)
    assert str(refusal.value).startswith(f"{name}: ")
    assert "pip install 'respr-engine[bm3d]'" in str(refusal.value)
    assert "non-commercial" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_bm3d_is_given_slices_and_bm4d_the_volume(package, noisy):
    slices, volumes = package("bm3d"), package("bm4d")
    for method in OPTIONAL.values():
        found = estimate(method, noisy)
        np.testing.assert_allclose(found, noisy / 2, rtol=1e-6)
        assert found.dtype == np.float32
    assert slices == [(noisy.shape[1:], pytest.approx(SIGMA))] * len(noisy)
    assert volumes == [(noisy.shape, pytest.approx(SIGMA))]


def test_a_volume_smaller_than_a_block_is_refused(package, noisy):
    package("bm4d")
    with pytest.raises(BadUsage, match=r"needs 5 voxels .* \(4, 36, 32\)\. Take more slices"):
        estimate(BM4D(), noisy[:4])


@pytest.mark.parametrize("name", OPTIONAL)
def test_the_real_packages_denoise(name, clean, noisy):
    pytest.importorskip(name, reason=f"{name} is optional: its licence is non-commercial")
    slices = 1 if name == "bm3d" else len(noisy)
    noisy, clean = noisy[:slices, :24, :24], clean[:slices, :24, :24]
    assert psnr_db(clean, estimate(OPTIONAL[name], noisy)) > psnr_db(clean, noisy) + 5
