import math

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from engine.scoring.metrics import attenuation_scores, scores, soft_tissue_rmse, window_psnr
from volumes import Window

WINDOW = Window()


@pytest.fixture(autouse=True)
def _tensorflow(cpu):
    """SSIM is TensorFlow's."""


@pytest.fixture(scope="module")
def pair(phantom_hu):
    """A phantom in window units and the same with noise, beyond the window in places."""
    clean = WINDOW.unit(phantom_hu[:3, :, :48])
    noise = np.random.default_rng(0).standard_normal(clean.shape, np.float32)
    return clean, clean + 0.1 * noise


def constant(value, shape=(2, 16, 16)):
    return np.full(shape, value, np.float32)


def test_scores_of_a_constant_error_are_those_of_a_pencil():
    found = scores(constant(0.5), constant(0.6), WINDOW)
    assert found.mse == pytest.approx(0.01, rel=1e-5)
    assert found.psnr_db == pytest.approx(20, abs=1e-4)
    assert found.relative_l2_percent == pytest.approx(20, rel=1e-5)
    assert found.rmse_hu == pytest.approx(140, rel=1e-5)


def test_an_error_in_few_voxels_counts_by_their_share():
    estimate = constant(0.5)
    estimate[0, 0, :8] += 0.4  # 8 of 512
    found = scores(constant(0.5), estimate, WINDOW)
    assert found.mse == pytest.approx(0.16 / 64, rel=1e-5)
    assert found.relative_l2_percent == pytest.approx(100 * 0.4 / 0.5 / 8, rel=1e-5)


def test_rmse_is_in_hu_of_the_window_it_is_given():
    narrow = Window(low_hu=-100, high_hu=100)
    assert scores(constant(0.5), constant(0.6), narrow).rmse_hu == pytest.approx(20, rel=1e-5)


def test_both_images_are_clipped_to_the_window():
    beyond = scores(constant(1.5), constant(-0.5), WINDOW)
    assert beyond == scores(constant(1.0), constant(0.0), WINDOW)
    assert beyond.mse == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_estimate_that_is_not_finite_has_no_score(value):
    estimate = constant(0.5)
    estimate[1, 2, 3] = value
    found = scores(constant(0.5), estimate, WINDOW)
    assert all(math.isnan(score) for score in (found.mse, found.psnr_db, found.rmse_hu, found.ssim))


def test_identical_volumes_are_perfect(pair):
    found = scores(pair[0], pair[0], WINDOW)
    assert (found.mse, found.rmse_hu, found.relative_l2_percent) == (0, 0, 0)
    assert found.psnr_db == math.inf
    assert found.ssim == pytest.approx(1, abs=1e-6)


def test_nothing_can_be_relative_to_an_empty_volume():
    assert math.isnan(scores(constant(0), constant(0.1), WINDOW).relative_l2_percent)


def test_psnr_is_that_of_scikit_image(pair):
    clean, noisy = (np.clip(image, 0, 1).astype(np.float64) for image in pair)
    expected = peak_signal_noise_ratio(clean, noisy, data_range=1)
    assert scores(*pair, WINDOW).psnr_db == pytest.approx(expected, abs=1e-4)


def test_ssim_is_that_of_scikit_image_where_the_window_fits(pair):
    clean, noisy = (np.clip(image, 0, 1).astype(np.float64) for image in pair)
    expected = []
    for one, other in zip(clean, noisy, strict=True):
        _, full = structural_similarity(
            one, other, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
            data_range=1, full=True,
        )  # fmt: skip
        expected.append(full[5:-5, 5:-5].mean())
    assert scores(*pair, WINDOW).ssim == pytest.approx(np.mean(expected), abs=1e-4)


@pytest.mark.parametrize("shape", [(3, 10, 64), (3, 64, 10), (1, 1, 1)])
def test_slices_smaller_than_the_window_have_no_ssim(shape):
    found = scores(constant(0.5, shape), constant(0.6, shape), WINDOW)
    assert math.isnan(found.ssim)
    assert found.psnr_db == pytest.approx(20, abs=1e-4)


def test_the_smallest_slices_with_an_ssim_are_of_11_voxels():
    found = scores(constant(0.5, (1, 11, 11)), constant(0.5, (1, 11, 11)), WINDOW)
    assert found.ssim == pytest.approx(1, abs=1e-6)


def test_the_images_are_left_as_they_are(pair):
    before = [image.copy() for image in pair]
    scores(*pair, WINDOW)
    for image, copy in zip(pair, before, strict=True):
        np.testing.assert_array_equal(image, copy)


# -- Display windows -------------------------------------------------------------------------------


def in_hu(value, shape=(2, 16, 16)):
    return constant((value + 1000) / 1400, shape)


def test_psnr_of_a_display_window_is_that_of_a_pencil():
    found = window_psnr(in_hu(0), in_hu(40), WINDOW)
    assert found["psnr_soft_tissue_db"] == pytest.approx(20, abs=1e-3)  # 40 of 400 HU
    # 40 of 1500 HU; both values lie within the two wide windows.
    assert found["psnr_lung_db"] == pytest.approx(20 * np.log10(37.5), abs=1e-3)
    assert found["psnr_bone_db"] == pytest.approx(20 * np.log10(37.5), abs=1e-3)


def test_every_display_window_has_a_psnr():
    names = {"psnr_lung_db", "psnr_soft_tissue_db", "psnr_bone_db"}
    assert set(window_psnr(in_hu(0), in_hu(1), WINDOW)) == names


def test_bone_above_the_window_is_no_error_where_the_clean_image_is_clipped():
    assert window_psnr(in_hu(400), in_hu(900), WINDOW)["psnr_bone_db"] == math.inf


def test_what_a_display_window_does_not_show_is_no_error_there():
    found = window_psnr(in_hu(-900), in_hu(-500), WINDOW)  # black in both other windows
    assert found["psnr_soft_tissue_db"] == found["psnr_bone_db"] == math.inf
    assert found["psnr_lung_db"] == pytest.approx(-20 * np.log10(400 / 1500), abs=1e-3)


def test_an_error_across_the_end_of_a_display_window_counts_up_to_it():
    found = window_psnr(in_hu(-200), in_hu(-120), WINDOW)  # soft tissue begins at -160 HU
    assert found["psnr_soft_tissue_db"] == pytest.approx(20, abs=1e-3)


def test_an_error_in_few_voxels_of_a_display_window_counts_by_their_share():
    estimate = in_hu(0)
    estimate[0, 0, :8] = in_hu(200)[0, 0, :8]  # half the window, 8 of 512 voxels
    found = window_psnr(in_hu(0), estimate, WINDOW)["psnr_soft_tissue_db"]
    assert found == pytest.approx(-10 * np.log10(0.25 / 64), abs=1e-3)


def test_a_display_window_is_in_hu_of_the_window_it_is_given():
    narrow = Window(low_hu=-160, high_hu=240)
    found = window_psnr(constant(0.5), constant(0.6), narrow)  # 40 HU
    assert found["psnr_soft_tissue_db"] == pytest.approx(20, abs=1e-3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_estimate_that_is_not_finite_has_no_score_in_a_display_window(value):
    estimate = constant(0.5)
    estimate[1, 2, 3] = value
    found = window_psnr(constant(0.5), estimate, WINDOW)
    assert all(math.isnan(score) for score in found.values())


# -- Attenuation -----------------------------------------------------------------------------------


def noisy_hu(hu):
    return (hu + np.random.default_rng(1).normal(0, 60, hu.shape)).astype(np.float32)


def test_scores_of_attenuation_are_those_of_another_library_slice_by_slice(phantom_hu):
    clean_hu = phantom_hu[:3, :, :48]
    estimate_hu = noisy_hu(clean_hu)
    found = attenuation_scores(clean_hu, estimate_hu)
    psnr, ssim = [], []
    for one, other in zip(clean_hu, estimate_hu, strict=True):
        clean = np.maximum(0.01931 * (1 + one / 1000.0), 0)  # per mm
        estimate = 0.01931 * (1 + other / 1000.0)
        psnr.append(peak_signal_noise_ratio(clean, estimate, data_range=clean.max()))
        _, map_ = structural_similarity(
            np.pad(clean, 5, "edge"), np.pad(estimate, 5, "edge"), data_range=clean.max(),
            gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True,
        )  # fmt: skip
        ssim.append(map_[5:-5, 5:-5].mean())
    assert found["psnr_mu_db"] == pytest.approx(np.mean(psnr), abs=1e-4)
    assert found["ssim_mu"] == pytest.approx(np.mean(ssim), abs=1e-4)


def test_attenuation_above_the_window_counts():
    clean_hu = np.full((1, 16, 16), 1000, np.int16)  # twice the attenuation of water
    found = attenuation_scores(clean_hu, np.full((1, 16, 16), 1020, np.float32))
    assert found["psnr_mu_db"] == pytest.approx(40, abs=1e-4)


def test_clean_values_below_air_attenuate_nothing_and_air_alone_is_left_out(phantom_hu):
    clean_hu = phantom_hu[:1]
    wanted = attenuation_scores(clean_hu, noisy_hu(clean_hu))
    lower = np.where(clean_hu <= -1000, -1024, clean_hu).astype(np.int16)
    assert attenuation_scores(lower, noisy_hu(clean_hu))["psnr_mu_db"] == pytest.approx(
        attenuation_scores(np.maximum(clean_hu, -1000), noisy_hu(clean_hu))["psnr_mu_db"]
    )
    air = np.full_like(clean_hu, -1000)
    both = attenuation_scores(
        np.concatenate([clean_hu, air]), noisy_hu(np.concatenate([clean_hu, air]))
    )
    assert both["psnr_mu_db"] == pytest.approx(wanted["psnr_mu_db"], abs=0.2)
    assert all(math.isnan(score) for score in attenuation_scores(air, noisy_hu(air)).values())


def test_a_perfect_estimate_of_attenuation_has_no_error(phantom_hu):
    hu = np.maximum(phantom_hu[:2], -1000)
    found = attenuation_scores(hu, hu.astype(np.float32))
    assert found["psnr_mu_db"] == math.inf
    assert found["ssim_mu"] == pytest.approx(1, abs=1e-6)


def test_an_estimate_that_is_not_finite_has_no_score_of_attenuation(phantom_hu):
    estimate_hu = noisy_hu(phantom_hu[:2])
    estimate_hu[1, 3, 4] = np.nan
    found = attenuation_scores(phantom_hu[:2], estimate_hu)
    assert math.isnan(found["psnr_mu_db"])
    assert math.isnan(found["ssim_mu"])


def test_the_error_of_soft_tissue_is_that_where_the_clean_image_shows_it():
    clean, estimate = in_hu(40), in_hu(50)
    assert soft_tissue_rmse(clean, estimate, WINDOW) == pytest.approx(10, rel=1e-3)
    clean[:, : clean.shape[1] // 2] = in_hu(-900)[:, : clean.shape[1] // 2]
    estimate[:, : clean.shape[1] // 2] += 0.3  # of air, which is not looked at
    assert soft_tissue_rmse(clean, estimate, WINDOW) == pytest.approx(10, rel=1e-3)
    assert math.isnan(soft_tissue_rmse(in_hu(-900), in_hu(40), WINDOW))
