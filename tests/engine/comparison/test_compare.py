import dataclasses
import json
import shutil
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from scipy import ndimage

from engine.comparison import compare as comparing
from engine.comparison.classical import METHODS, Noisy, TotalVariation, tuned
from engine.comparison.compare import Comparison, compare
from engine.comparison.methods import resolve_methods
from engine.comparison.noise_levels import added_levels
from engine.errors import BadUsage, Mismatch
from engine.scoring.case_images import pair
from engine.scoring.metrics import scores, window_psnr
from tests.engine.tiny import tiny, untrained
from volumes import Gaussian, NeighbourMean, Window
from volumes.volume import Volume

SIGMA = 0.1
WINDOW = Window()


@pytest.fixture(autouse=True)
def _tensorflow(cpu):
    """SSIM and the networks are TensorFlow's."""


@pytest.fixture(scope="module")
def cases(phantom_hu):
    """Two small scans of different shapes."""
    parts = {"one": phantom_hu[:3, 12:36, 16:40], "two": phantom_hu[2:8, 24:52, 20:44]}
    return [Volume(hu, (3.0, 0.8, 0.7), name, name) for name, hu in parts.items()]


@pytest.fixture(scope="module")
def tuning(phantom_hu):
    """A scan for tuning."""
    return [Volume(phantom_hu[:, 20:36, 20:36], (3.0, 0.8, 0.7), "three", "three")]


@pytest.fixture
def comparison(cases, tuning):
    """Makes a comparison of methods on the two scans."""

    def make(*methods, **fields):
        compared = resolve_methods([str(method) for method in methods], "best")
        plain = Comparison(
            compared, cases, tuning, added_levels(f"gaussian:{SIGMA}"), WINDOW, NeighbourMean()
        )
        return dataclasses.replace(plain, **fields)

    return make


@pytest.fixture
def spies(monkeypatch):
    """Two methods that record their input and return a changed copy."""
    seen = {"spy": [], "mole": []}

    def install(name):
        @dataclass(frozen=True)
        class Spy:
            sees_prior: ClassVar[bool] = True
            slicewise: ClassVar[bool] = False

            def candidates(self):
                return [self]

            def estimate(self, noisy, sigma, spacing_mm, prior):
                seen[name].append((noisy.copy(), sigma, spacing_mm, prior.copy()))
                return noisy - np.float32(0.01)

        monkeypatch.setitem(METHODS, name, Spy)

    for name in seen:
        install(name)
    return seen


def run(comparison):
    return compare(comparison, lambda text: None)


def clean_and_noisy(volume, sigma=SIGMA):
    """The images of a case, with noise of the library but calculated here."""
    unit = (volume.hu.astype(np.float32) + 1000) / np.float32(1400)
    noisy = Gaussian(sigma).degrade(unit, sigma, 0, volume.case)
    return np.clip(unit, 0, 1), np.clip(noisy, -max(6 * sigma, 0.1), 1 + 3 * sigma)


def prior_of(noisy, radius=4, decay=0.04):
    """The weighted mean of neighbouring slices."""
    found = np.empty_like(noisy)
    for z in range(len(noisy)):
        near = range(max(z - radius, 0), min(z + radius + 1, len(noisy)))
        weights = np.exp([-decay * abs(n - z) for n in near])
        found[z] = np.tensordot(weights / weights.sum(), noisy[list(near)], 1)
    return found


def by_name(rows, method):
    return {row.case: row.scores for row in rows if row.method == method}


# -- The same for all ------------------------------------------------------------------------------


def test_every_method_is_given_the_same_noisy_image_and_prior(comparison, spies):
    run(comparison("spy", "noisy", "mole"))
    assert len(spies["spy"]) == len(spies["mole"]) == 2
    for one, other in zip(spies["spy"], spies["mole"], strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[3], other[3])
        assert one[1:3] == other[1:3] == (SIGMA, (3.0, 0.8, 0.7))


def test_a_method_that_changes_its_input_would_be_seen_by_no_other(comparison, spies, cases):
    run(comparison("spy", "tv", "mole"))
    for case, (noisy, *_) in zip(cases, spies["mole"], strict=True):
        np.testing.assert_allclose(noisy, clean_and_noisy(case)[1], atol=1e-6)


def test_methods_of_equal_estimates_have_equal_scores(comparison, spies):
    rows, _, _ = run(comparison("spy", "mole"))
    np.testing.assert_equal(by_name(rows, "spy"), by_name(rows, "mole"))


def test_the_order_of_the_methods_changes_no_score(comparison):
    one, other = run(comparison("noisy", "prior"))[0], run(comparison("prior", "noisy"))[0]
    for method in ("noisy", "prior"):
        np.testing.assert_equal(by_name(one, method), by_name(other, method))


def test_a_network_receives_the_same_input_as_other_methods(comparison, identity_run):
    rows, _, _ = run(comparison(identity_run, "noisy"))
    # It returns its input where that is not negative: equal after clipping to the window.
    for name in ("mse", "ssim", "psnr_soft_tissue_db"):
        found = [by_name(rows, method)["one"][name] for method in ("identity", "noisy")]
        assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_the_noise_is_that_of_validation_during_training(comparison, spies, cases):
    run(comparison("spy"))
    for case, (noisy, *_) in zip(cases, spies["spy"], strict=True):
        np.testing.assert_array_equal(noisy, pair(tiny(), case).noisy)


def test_the_same_comparison_gives_the_same_scores(comparison, unet_run):
    one, other = (run(comparison(unet_run, "noisy", "prior"))[0] for _ in range(2))
    np.testing.assert_equal(*([dataclasses.asdict(row) for row in rows] for rows in (one, other)))


# -- Scores ----------------------------------------------------------------------------------------


def test_the_noisy_row_equals_a_calculation_by_hand(comparison, cases):
    rows = by_name(run(comparison("noisy"))[0], "noisy")
    for case in cases:
        clean, noisy = clean_and_noisy(case)
        found = rows[case.case]
        mse = np.mean((np.clip(noisy, 0, 1) - clean).astype(np.float64) ** 2)
        assert found["mse"] == pytest.approx(mse, rel=1e-5)
        assert found["psnr_db"] == pytest.approx(-10 * np.log10(mse), abs=1e-4)
        assert found["rmse_hu"] == pytest.approx(1400 * np.sqrt(mse), rel=1e-5)
        inside = (case.hu >= -1000) & (case.hu <= 400)
        assert found["bias_hu"] == pytest.approx(1400 * np.mean((noisy - clean)[inside]), abs=1e-2)
        assert found["ssim"] == pytest.approx(scores(clean, noisy, WINDOW).ssim, abs=1e-5)
        for name, psnr_db in window_psnr(clean, noisy, WINDOW).items():
            assert found[name] == pytest.approx(psnr_db, abs=1e-4)
        # Nothing was removed.
        assert found["residual_autocorrelation"] == found["residual_at_edges"] == 0


def test_the_prior_row_is_the_mean_of_the_noisy_slices_near_by(comparison, cases):
    rows = by_name(run(comparison("prior"))[0], "prior")
    clean, noisy = clean_and_noisy(cases[1])
    mse = np.mean((np.clip(prior_of(noisy), 0, 1) - clean) ** 2)
    assert rows["two"]["mse"] == pytest.approx(mse, rel=1e-4)
    other = comparison("prior", prior=NeighbourMean(radius=1, decay=1.0))
    mse = np.mean((np.clip(prior_of(noisy, 1, 1.0), 0, 1) - clean) ** 2)
    assert by_name(run(other)[0], "prior")["two"]["mse"] == pytest.approx(mse, rel=1e-4)


def test_a_constant_error_is_a_bias_in_hu(comparison, spies, cases):
    rows, _, _ = run(comparison("spy", "noisy"))
    for case in ("one", "two"):
        shifted = by_name(rows, "spy")[case]["bias_hu"] - by_name(rows, "noisy")[case]["bias_hu"]
        assert shifted == pytest.approx(-14, abs=0.01)


def test_the_residual_is_noisy_minus_estimate(comparison, monkeypatch, cases):
    class Blur(Noisy):
        def candidates(self):
            return [self]

        def estimate(self, noisy, sigma, spacing_mm, prior):
            return ndimage.gaussian_filter(noisy, (0, 2, 2))

    monkeypatch.setitem(METHODS, "blur", Blur)
    found = by_name(run(comparison("blur"))[0], "blur")["two"]
    clean, noisy = clean_and_noisy(cases[1])
    removed = noisy - ndimage.gaussian_filter(noisy, (0, 2, 2))
    ahead = np.concatenate([removed[:, 1:].ravel(), removed[..., 1:].ravel()])
    behind = np.concatenate([removed[:, :-1].ravel(), removed[..., :-1].ravel()])
    expected = np.corrcoef(ahead, behind)[0, 1]
    assert found["residual_autocorrelation"] == pytest.approx(expected, abs=1e-4)
    slope = np.array([np.hypot(ndimage.sobel(z, 0), ndimage.sobel(z, 1)) for z in clean])
    at_edges = np.corrcoef(np.abs(removed).ravel(), slope.ravel())[0, 1]
    assert found["residual_at_edges"] == pytest.approx(at_edges, abs=1e-4)
    assert at_edges > 0.1


def test_bone_beyond_the_window_is_no_residual_of_a_recording(comparison):
    hu = np.zeros((2, 64, 64), np.int16)
    hu[:, 16:48, 16:48] = 1000
    noise_hu = np.random.default_rng(0).normal(0, 40, hu.shape)
    volume = Volume(hu, (3.0, 0.8, 0.7), "bone", "bone", 0, (hu + noise_hu).astype(np.int16))
    perfect = comparison(
        "prior@clean:0", cases=[volume], levels=added_levels("recorded:x"),
        recorded={"x": {"bone": volume}},
    )  # fmt: skip
    (row,) = run(perfect)[0]
    assert abs(row.scores["residual_autocorrelation"]) < 0.05
    assert row.scores["residual_at_edges"] < 0.1


def test_a_network_makes_the_prior_that_it_was_trained_with(comparison, respr_run):
    # It returns its own prior, not that of the classical methods.
    own_estimate = {"protocol": "reference"}  # in which bone does not keep its values
    rows, _, _ = run(comparison(respr_run, "prior", **own_estimate))
    wrong, _, _ = run(comparison(respr_run, "prior", prior=NeighbourMean(radius=1), **own_estimate))
    found = {case: of["mse"] for case, of in by_name(rows, "prior").items()}
    for result in (rows, wrong):
        own = {case: of["mse"] for case, of in by_name(result, "respr").items()}
        assert own == pytest.approx(found, rel=1e-4)
    assert by_name(wrong, "prior")["one"]["mse"] != pytest.approx(found["one"], rel=1e-2)


def test_every_method_case_and_level_has_one_row(comparison):
    levels = added_levels("gaussian:0.02,0.05")
    rows, settings, pictures = run(comparison("noisy", "prior", levels=levels))
    found = [(row.level, row.case, row.method) for row in rows]
    assert sorted(found) == sorted(
        (level, case, method)
        for level in ("2%", "5%") for case in ("one", "two") for method in ("noisy", "prior")
    )  # fmt: skip
    assert list(settings) == ["2%", "5%"]
    assert [picture.level for picture in pictures] == ["2%", "5%"]


def test_each_level_is_the_same_noise_of_another_strength(comparison, spies, cases):
    run(comparison("spy", levels=added_levels("gaussian:0.02,0.05"), cases=cases[:1]))
    clean, _ = clean_and_noisy(cases[0])
    low, high = ((noisy - clean) / np.float32(sigma) for noisy, sigma, *_ in spies["spy"])
    inside = (clean > 0) & (clean < 1) & (low < 2.9) & (high < 2.9)  # nothing was clipped
    assert inside.mean() > 0.5
    np.testing.assert_allclose(low[inside], high[inside], atol=1e-4)


def test_slices_about_the_middle_are_estimated_in_the_whole_volume(comparison, spies, cases):
    (_, row), _, _ = run(comparison("spy", "noisy", slices=4, cases=cases[1:]))
    (noisy, *_) = spies["spy"][0]
    clean, whole = clean_and_noisy(cases[1])
    np.testing.assert_allclose(noisy, whole, atol=1e-6)
    error = np.clip(whole[1:5], 0, 1) - clean[1:5]
    assert row.scores["mse"] == pytest.approx(np.mean(error.astype(float) ** 2), rel=1e-4)


def test_more_slices_than_a_case_has_are_all_of_them(comparison):
    found = (run(comparison("noisy", slices=slices))[0] for slices in (99, None))
    np.testing.assert_equal(*([dataclasses.asdict(row) for row in rows] for rows in found))


def test_the_viewer_is_given_the_slices_of_the_first_case(comparison, cases):
    _, _, (picture,) = run(comparison("noisy", "prior", slices=2))
    assert picture.stack.numbers == (0, 1)
    assert (picture.stack.depth, picture.stack.spacing_mm) == (3, (3.0, 0.8, 0.7))
    assert list(picture.stack.images) == ["clean", "noisy", "prior"]
    noisy = 1400 * clean_and_noisy(cases[0])[1][:2] - 1000
    np.testing.assert_allclose(picture.stack.images["noisy"], noisy, atol=1e-2)
    np.testing.assert_array_equal(picture.stack.images["prior"][1], picture.slices["prior"])


def test_rows_hold_the_spectrum_of_what_was_removed(comparison):
    rows, _, _ = run(comparison("noisy", "prior"))
    noise = {row.method: row.noise for row in rows if row.case == "two"}
    assert noise["noisy"].added_hu2_mm2 == noise["prior"].added_hu2_mm2
    assert not any(noise["noisy"].removed_hu2_mm2)
    white = (SIGMA * 1400) ** 2 * 0.8 * 0.7
    assert np.mean(noise["prior"].added_hu2_mm2) == pytest.approx(white, rel=0.2)
    # The mean of neighbouring slices keeps a share of the noise at every frequency.
    assert 0.3 < np.mean(noise["prior"].removed_hu2_mm2) / white < 1


def test_shifts_of_tissues_are_those_of_the_clean_scan(comparison, cases, spies):
    rows, _, _ = run(comparison("spy", "noisy"))
    noisy = clean_and_noisy(cases[1])[1]
    fat = (cases[1].hu >= -150) & (cases[1].hu < -30)
    shift = 1400 * (noisy - 0.01)[fat] - 1000 - cases[1].hu[fat]
    found = by_name(rows, "spy")["two"]["shift_fat_hu"]
    assert found == pytest.approx(np.mean(shift), abs=0.02)
    assert found == pytest.approx(by_name(rows, "noisy")["two"]["shift_fat_hu"] - 14, abs=0.01)


def test_the_picture_is_the_middle_slice_of_the_first_case_in_hu(comparison, cases):
    _, _, (picture,) = run(comparison("prior", "noisy"))
    clean, noisy = clean_and_noisy(cases[0])
    assert picture.case == "one"
    assert list(picture.slices) == ["clean", "noisy", "prior"]
    np.testing.assert_allclose(picture.slices["clean"], 1400 * clean[1] - 1000, atol=1e-2)
    np.testing.assert_allclose(picture.slices["noisy"], 1400 * noisy[1] - 1000, atol=1e-2)


def test_bright_grey_values_are_no_bone(cpu, comparison, tmp_path):
    def black(arrays):
        """Weights that make the estimate 0."""
        return {name: np.zeros_like(array) for name, array in arrays.items()}

    grey = Window(low_hu=0, high_hu=255)
    recipe = tiny("unet3d", "window.low_hu=0", "window.high_hu=255")
    network = untrained(tmp_path / "black", recipe, cpu, black).folder
    white = [Volume(np.full((3, 24, 24), 255, np.int16), (1.0, 1.0, 1.0), "white", "white")]
    rows, _, _ = run(comparison(network, cases=white, window=grey))
    assert by_name(rows, "black")["white"]["psnr_db"] == pytest.approx(0, abs=0.01)


# -- The protocol of the reference -----------------------------------------------------------------


@pytest.fixture(scope="module")
def large():
    """A scan that is larger than the reference's crop along every axis."""
    hu = np.random.default_rng(0).integers(-900, 300, (35, 260, 266), np.int16)
    return Volume(ndimage.uniform_filter(hu, 3), (3.0, 0.8, 0.7), "large", "large")


def test_the_reference_scores_the_first_slice_of_the_central_crop(comparison, large):
    rows, _, _ = run(comparison("noisy", cases=[large], protocol="reference"))
    clean, noisy = (image[1:2, 2:258, 5:261] for image in clean_and_noisy(large))
    mse = np.mean((np.clip(noisy, 0, 1) - clean).astype(np.float64) ** 2)
    assert rows[0].scores["psnr_db"] == pytest.approx(-10 * np.log10(mse), abs=1e-4)
    expected = window_psnr(clean, noisy, WINDOW)["psnr_lung_db"]
    assert rows[0].scores["psnr_lung_db"] == pytest.approx(expected, abs=1e-4)
    assert rows[0].scores["bias_hu"] == pytest.approx(1400 * np.mean(noisy - clean), abs=1e-2)


def test_the_reference_knows_no_slice_above_its_crop(comparison, large, spies):
    rows, _, _ = run(comparison("prior", "spy", cases=[large], protocol="reference"))
    (noisy, *_) = spies["spy"][0]
    assert noisy.shape == (32, 256, 256)
    clean = clean_and_noisy(large)[0][1:2, 2:258, 5:261]
    mse = np.mean((np.clip(prior_of(noisy[:5])[:1], 0, 1) - clean) ** 2)
    assert rows[0].scores["mse"] == pytest.approx(mse, rel=1e-4)


def test_a_scan_smaller_than_the_crop_is_its_own_crop(comparison, cases):
    rows, _, _ = run(comparison("noisy", protocol="reference"))
    clean, _ = clean_and_noisy(cases[0])
    noisy = Gaussian(SIGMA).degrade(clean, SIGMA, 0, cases[0].case)  # of the clipped image
    mse = np.mean((np.clip(noisy[0], 0, 1) - clean[0]) ** 2)
    assert by_name(rows, "noisy")["one"]["mse"] == pytest.approx(mse, rel=1e-5)


# -- Tuning ----------------------------------------------------------------------------------------


@pytest.fixture
def tunings(monkeypatch):
    """The arguments of every call of `tuned`."""
    calls = []

    def watched(method, pairs):
        calls.append((method.name, list(pairs)))
        return tuned(method, pairs)

    monkeypatch.setattr(comparing, "tuned", watched)
    return calls


def test_methods_are_tuned_on_the_tuning_cases_alone(comparison, tunings, tuning):
    run(comparison("tv", "noisy"))
    clean, noisy = clean_and_noisy(tuning[0])
    assert [name for name, *_ in tunings] == ["tv"]  # the noisy image has nothing to choose
    for _, pairs in tunings:
        ((known_clean, (known_noisy, sigma, spacing_mm, prior)),) = pairs
        assert (sigma, spacing_mm) == (SIGMA, (3.0, 0.8, 0.7))
        # A block of 8 of the 12 slices, about the middle.
        np.testing.assert_allclose(known_clean, clean[2:10], atol=1e-6)
        np.testing.assert_allclose(known_noisy, noisy[2:10], atol=1e-6)
        assert prior is None  # total variation sees none


def test_a_method_without_a_prior_waits_for_none(comparison, monkeypatch):
    monkeypatch.setattr(comparing.ComparedCase, "prior", lambda case, prior: pytest.fail("made"))
    run(comparison("tv", "noisy"))


def test_methods_are_tuned_for_every_level(comparison, tunings):
    run(comparison("tv", levels=added_levels("gaussian:0.02,0.05")))
    assert [pairs[0][1][1] for _, pairs in tunings] == [0.02, 0.05]
    noise = [np.std(pairs[0][1][0] - pairs[0][0]) for _, pairs in tunings]
    assert noise == pytest.approx([0.02, 0.05], rel=0.1)


def test_the_slices_that_are_scored_do_not_limit_those_that_tune(comparison, tunings):
    run(comparison("tv", slices=1))
    assert tunings[0][1][0][0].shape == (8, 16, 16)


def test_networks_are_not_tuned(comparison, tunings, unet_run):
    run(comparison(unet_run))
    assert tunings == []


def test_the_chosen_setting_is_reported_and_used(comparison, monkeypatch, cases):
    chosen = TotalVariation(weight=0.123)
    monkeypatch.setattr(comparing, "tuned", lambda method, pairs: chosen)
    rows, settings, _ = run(comparison("tv"))
    assert settings == {"10%": {"tv": "TotalVariation(weight=0.123, volumetric=False)"}}
    clean, noisy = clean_and_noisy(cases[0])
    expected = scores(clean, chosen.estimate(noisy, SIGMA, (3.0, 0.8, 0.7), None), WINDOW).mse
    assert by_name(rows, "tv")["one"]["mse"] == pytest.approx(expected, rel=1e-4)


def test_progress_is_reported(comparison, unet_run):
    told = []
    arranged = comparison(unet_run, "tv", levels=added_levels("gaussian:0.025"))
    compare(arranged, told.append)
    assert told[0] == "tuning tv, 2.5%"
    assert "unet, one, 2.5%" in told
    assert "tv, two, 2.5%" in told


def test_a_slice_wise_method_sees_the_scored_slices_alone_and_scores_the_same(comparison, cases):
    (row,), _, _ = run(comparison("tv", slices=2, cases=cases[1:], tuning=()))
    clean, noisy = clean_and_noisy(cases[1])
    whole = TotalVariation().estimate(noisy, SIGMA, (3.0, 0.8, 0.7), None)
    assert row.scores["mse"] == scores(clean[2:4], whole[2:4], WINDOW).mse


def test_without_tuning_cases_methods_keep_their_usual_parameters(comparison, tunings):
    _, settings, _ = run(comparison("tv", "nlm", tuning=()))
    assert tunings == []
    assert settings["10%"]["tv"] == repr(TotalVariation())


# -- Priors by name --------------------------------------------------------------------------------


def test_a_method_may_be_given_another_prior(comparison, cases):
    rows, _, _ = run(comparison("prior", "prior@noisy", "prior@mean:1", "prior@turned"))
    clean, noisy = clean_and_noisy(cases[1])
    for label, image in (
        ("prior", prior_of(noisy)),
        ("prior@noisy", noisy),
        ("prior@mean:1", prior_of(noisy, 1)),
        ("prior@turned", prior_of(noisy[:, ::-1, ::-1])),
    ):
        mse = np.mean((np.clip(image, 0, 1) - clean) ** 2)
        assert by_name(rows, label)["two"]["mse"] == pytest.approx(mse, rel=1e-4), label


def test_the_oracle_knows_the_clean_image(comparison):
    rows, _, _ = run(comparison("prior@clean:0"))
    assert by_name(rows, "prior@clean:0")["one"]["mse"] == 0


def test_a_network_may_be_given_another_prior_beside_its_own(comparison, respr_run):
    # It returns its prior. In the protocol of the reference, bone does not keep its values.
    methods = (respr_run, f"{respr_run}@tv", "prior", "prior@tv")
    rows, _, _ = run(comparison(*methods, protocol="reference"))
    for one, other in (("respr", "prior"), ("respr@tv", "prior@tv")):
        found, expected = by_name(rows, one)["two"]["mse"], by_name(rows, other)["two"]["mse"]
        assert found == pytest.approx(expected, rel=1e-4)


def test_the_prior_of_a_method_is_the_one_that_it_is_tuned_by(comparison, tunings):
    run(comparison("spade", "spade@clean:0"))
    ((clean, (*_, one)),), ((_, (*_, other)),) = (pairs for _, pairs in tunings)
    assert np.abs(one - clean).max() > 0.1
    np.testing.assert_array_equal(other, clean)


def test_a_run_s_estimate_is_a_prior(comparison, cases, cpu, tmp_path):
    flat = untrained(tmp_path / "flat", tiny("unet2d"), cpu).folder
    rows, _, _ = run(comparison(flat, f"prior@{flat}", cases=cases[:1]))
    own, prior = (by_name(rows, label)["one"]["mse"] for label in ("flat", "prior@flat"))
    assert prior == pytest.approx(own, rel=1e-4)


@pytest.mark.parametrize("word", ["tv@mean", "noisy@tv", "bm3d@clean"])
def test_a_prior_for_a_method_that_sees_none_is_refused(word):
    with pytest.raises(BadUsage, match="sees no prior"):
        resolve_methods([word], "best")


def test_a_prior_for_a_network_that_sees_none_is_refused(unet_run):
    with pytest.raises(BadUsage, match="UNet3D sees no prior"):
        resolve_methods([f"{unet_run}@tv"], "best")


def test_a_prior_that_is_unknown_is_refused():
    with pytest.raises(BadUsage, match="median: is no prior"):
        resolve_methods(["spade@median"], "best")


# -- Models ----------------------------------------------------------------------------------------


def test_models_are_named_by_their_folders(unet_run, identity_run):
    found = resolve_methods([str(unet_run), "tv", f"{identity_run}/"], "best")
    assert [method.label for method in found] == ["unet", "tv", "identity"]


def test_a_method_that_is_named_twice_is_refused():
    with pytest.raises(BadUsage, match="tv: is named twice"):
        resolve_methods(["tv", "noisy", "tv"], "best")


def test_what_is_neither_a_run_nor_a_method_is_refused(tmp_path):
    with pytest.raises(BadUsage, match="is not a method") as refusal:
        resolve_methods(["tv", str(tmp_path / "none")], "best")
    assert all(name in refusal.value.remedy for name in METHODS)
    with pytest.raises(BadUsage, match=r"Did you mean ct_denoiser\?"):
        resolve_methods(["ct_denoizer"], "best")


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(Mismatch):
        resolve_methods([str(tmp_path)], "best")


def test_two_runs_of_one_name_are_refused(unet_run, tmp_path):
    shutil.copytree(unet_run, tmp_path / "unet")
    with pytest.raises(Mismatch, match="is a second run named unet"):
        resolve_methods([str(unet_run), str(tmp_path / "unet")], "best")


@pytest.mark.parametrize("name", ["tv", "noisy", "clean", "reconstruction"])
def test_a_run_whose_name_means_something_else_in_the_tables_is_refused(unet_run, tmp_path, name):
    shutil.copytree(unet_run, tmp_path / name)
    with pytest.raises(Mismatch, match=f"is a run named {name}"):
        resolve_methods([str(tmp_path / name), "tv"], "best")


def test_networks_of_different_windows_are_refused(unet_run, tmp_path):
    shutil.copytree(unet_run, tmp_path / "bone")
    recipe = json.loads((tmp_path / "bone" / "recipe.json").read_text())
    recipe["window"]["high_hu"] = 1000.0
    (tmp_path / "bone" / "recipe.json").write_text(json.dumps(recipe))
    with pytest.raises(Mismatch, match="different windows"):
        resolve_methods([str(unet_run), str(tmp_path / "bone")], "best")


def test_networks_of_another_window_alone_may_be_compared(unet_run, tmp_path):
    shutil.copytree(unet_run, tmp_path / "bone")
    recipe = json.loads((tmp_path / "bone" / "recipe.json").read_text())
    recipe["window"]["high_hu"] = 1000.0
    (tmp_path / "bone" / "recipe.json").write_text(json.dumps(recipe))
    bone, _ = resolve_methods([str(tmp_path / "bone"), "tv"], "best")
    assert bone.model.recipe.window.high_hu == 1000


def test_the_checkpoint_that_is_asked_for_is_opened(trained):
    found = [resolve_methods([str(trained)], which)[0].model.step for which in ("2", "last")]
    assert found == [2, 4]
    with pytest.raises(Mismatch, match="has no checkpoint 3"):
        resolve_methods([str(trained)], "3")
