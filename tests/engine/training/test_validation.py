from dataclasses import replace

import numpy as np
import pytest

from engine.comparison.compare import ComparedCase, Comparison
from engine.comparison.noise_levels import Level
from engine.inference.tiling import Plan
from engine.networks import UNet3D
from engine.scoring.case_images import Pair, levels, pair
from engine.scoring.metrics import Scores
from engine.training.validation import Scored, Validation
from tests.engine.tiny import identity, tiny
from volumes import NeighbourMean, Window
from volumes.volume import Volume


@pytest.fixture(autouse=True)
def _tensorflow(cpu):
    """SSIM is TensorFlow's."""


@pytest.fixture
def flat():
    """A volume in the middle of the window, where no noise is clipped."""
    return Volume(np.full((4, 64, 64), -300, np.int16), (3.0, 1.0, 1.0), "flat", "")


def noise(recipe, volume, slices=None):
    found = pair(recipe, volume, slices)
    return found.noisy - found.clean


def test_the_clean_image_is_the_window_of_the_scan(volume):
    found = pair(tiny(), volume)
    expected = np.clip((volume.hu.astype(np.float64) + 1000) / 1400, 0, 1)
    np.testing.assert_allclose(found.clean, expected, atol=1e-6)


def test_a_recipe_that_does_not_clip_is_scored_on_what_it_learns(volume):
    found = pair(tiny("unet3d", "window.high_hu=0", "window.clip=false"), volume)
    assert found.clean.max() > 1


def test_the_noise_is_the_same_for_every_network_seed_and_crop(volume):
    one = noise(tiny("unet3d"), volume)
    for other in (tiny("respr_unet3d", "seed=5"), tiny("dncnn", "batch=8")):
        np.testing.assert_array_equal(one, noise(other, volume))


def test_the_noise_is_as_strong_as_the_recipe_says(flat):
    assert noise(tiny("unet3d", "noise.sigma=0.05"), flat).std() == pytest.approx(0.05, rel=0.03)
    assert noise(tiny("unet3d", "noise.sigma=0.1,0.3"), flat).std() == pytest.approx(0.2, rel=0.03)


def test_another_case_has_other_noise(flat):
    other = noise(tiny(), replace(flat, case="other"))
    correlation = np.corrcoef(other.ravel(), noise(tiny(), flat).ravel())[0, 1]
    assert abs(correlation) < 0.05


def test_slices_are_taken_about_the_middle(volume):
    whole, middle = pair(tiny(), volume), pair(tiny(), volume, 4)
    np.testing.assert_array_equal(middle.clean, whole.clean[4:8])
    np.testing.assert_array_equal(middle.noisy, whole.noisy[4:8])


def test_a_volume_with_fewer_slices_is_taken_whole(volume):
    assert pair(tiny(), volume, 100).clean.shape == volume.hu.shape


def test_a_pair_has_a_prior_where_the_recipe_has_one(volume):
    assert pair(tiny("unet3d"), volume).prior is None
    assert pair(tiny("respr_unet3d"), volume).prior.shape == volume.hu.shape


def test_the_prior_is_made_of_the_noisy_image(volume):
    found = pair(tiny("respr_unet3d", "prior.radius=1", "prior.decay=0"), volume)
    np.testing.assert_allclose(found.prior[5], found.noisy[4:7].mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found.prior[0], found.noisy[:2].mean(axis=0), atol=1e-6)


def test_the_noisy_image_is_a_baseline_that_can_be_computed(flat):
    rows = Validation(tiny("unet3d", "noise.sigma=0.1"), [flat]).baselines()
    assert list(rows) == ["noisy"]
    assert rows["noisy"].cases[""]["flat"].psnr_db == pytest.approx(20, abs=0.2)  # -20 log10 0.1
    assert rows["noisy"].cases[""]["flat"].rmse_hu == pytest.approx(140, rel=0.02)


def test_the_prior_is_a_baseline_where_there_is_one(flat):
    recipe = tiny("respr_unet3d", "noise.sigma=0.1", "prior.decay=0", "prior.radius=3")
    rows = Validation(recipe, [flat]).baselines()
    # All four slices weigh alike in the mean of at least four: a half of the noise stays.
    assert list(rows) == ["noisy", "prior"]
    assert rows["prior"].cases[""]["flat"].rmse_hu == pytest.approx(70, rel=0.03)


@pytest.fixture
def identical(cpu):
    """An estimator that returns what it is given, and 0 where that is negative."""
    from engine.inference.predictor import Predictor

    model = UNet3D(1, 1).build()
    arrays = identity({v.path: v.numpy() for v in model.variables})
    for variable in model.variables:
        variable.assign(arrays[variable.path])
    return Predictor(model)


def test_a_network_that_does_nothing_scores_like_the_noisy_image(volume, identical):
    validation = Validation(tiny(), [volume])
    scored, _ = validation.scores(identical)
    rows = scored.cases[""]
    noisy = validation.baselines()["noisy"].cases[""]["phantom"]
    assert rows["phantom"].mse == pytest.approx(noisy.mse, rel=1e-5)
    assert rows["phantom"].ssim == pytest.approx(noisy.ssim, rel=1e-5)


def test_every_case_is_scored_and_the_first_one_shown(volume, flat, identical):
    validation = Validation(tiny(), [volume, flat])
    scored, shown = validation.scores(identical)
    assert list(scored.cases[""]) == ["phantom", "flat"]
    np.testing.assert_allclose(shown, np.maximum(validation.pairs[0].noisy, 0), atol=1e-6)


def test_a_stop_is_looked_for_before_each_tile_and_each_score(volume, flat, identical, monkeypatch):
    tiled = "engine.training.validation.plan"
    monkeypatch.setattr(tiled, lambda shape, network: Plan(shape, (4, 8, 64), network))
    validation = Validation(tiny("unet3d", "network.levels=1"), [volume, flat])
    looks = []
    validation.scores(identical, lambda: looks.append(1))
    recipe = tiny("unet3d", "network.levels=1")
    tiles = sum(Plan(p.clean.shape, (4, 8, 64), recipe.network).count for p in validation.pairs)
    assert tiles > 8
    assert len(looks) == tiles + 2

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        validation.scores(identical, stop)


def scored(**mse_at):
    """Scores at levels of one or two cases, told by their mean squared errors."""
    return Scored.of(
        (Pair(level, case, None, None), Scores(mse, -10 * np.log10(mse), 0.5, 1.0, 20.0))
        for level, errors in mse_at.items()
        for case, mse in errors.items()
    )


def test_the_mean_is_over_cases():
    found = Scored.of(
        [
            (Pair("", "a", None, None), Scores(0.1, 10.0, 0.5, 1.0, 20.0)),
            (Pair("", "b", None, None), Scores(0.3, 30.0, 0.7, 3.0, 40.0)),
        ]
    )
    assert found.mean == pytest.approx(
        {"mse": 0.2, "psnr_db": 20, "ssim": 0.6, "relative_l2_percent": 2, "rmse_hu": 30}
    )


def test_the_error_over_levels_is_that_of_the_mean_psnr():
    found = scored(low={"a": 1e-4}, high={"a": 1e-2})
    assert found.mean["mse"] == pytest.approx(1e-3)
    assert found.mean["psnr_db"] == pytest.approx(30)
    perfect = scored(low={"a": 1e-4}, high={"a": 1e-2})
    perfect.cases["low"]["a"] = replace(perfect.cases["low"]["a"], mse=0.0)
    assert perfect.mean["mse"] == 0.0


def test_scores_become_a_row_a_level_and_one_of_their_mean():
    (row,) = scored(**{"": {"a": 0.1, "b": 0.3}}).rows()
    assert list(row) == ["validation", "mean"]
    assert row["validation"]["a"] == {
        "mse": 0.1, "psnr_db": 10.0, "ssim": 0.5, "relative_l2_percent": 1.0, "rmse_hu": 20.0,
    }  # fmt: skip
    low, high, mean = scored(low={"a": 1e-4}, high={"a": 1e-2}).rows()
    assert (low["level"], high["level"]) == ("low", "high")
    assert low["validation"]["a"]["mse"] == low["mean"]["mse"] == 1e-4
    assert list(mean) == ["mean"]
    assert mean["mean"]["mse"] == pytest.approx(1e-3)


def test_a_recipe_is_validated_at_every_level_of_every_kind_of_its_noise():
    assert list(levels(tiny())) == [""]
    assert list(levels(tiny("unet3d", "validate_at=0.02,0.1"))) == ["2%", "10%"]
    both = levels(tiny("ct_denoiser", "validate_at=0.02,0.1"))
    assert list(both) == ["2%", "coloured 2%", "10%", "coloured 10%"]
    assert both["coloured 2%"].noise.typical == 0.02


def test_the_noise_of_a_level_is_as_strong_as_its_label_says(flat):
    recipe = tiny("ct_denoiser", "validate_at=0.02,0.1")
    pairs = Validation(recipe, [flat]).pairs
    found = {each.level: float((each.noisy - each.clean).std()) for each in pairs}
    expected = {"2%": 0.02, "coloured 2%": 0.02, "10%": 0.1, "coloured 10%": 0.1}
    assert found == pytest.approx(expected, rel=0.05)


def test_validation_at_a_level_sees_what_a_recipe_of_that_level_sees(volume):
    several = Validation(tiny("unet3d", "validate_at=0.02,0.1"), [volume]).pairs
    (alone,) = Validation(tiny("unet3d", "noise.sigma=0.1"), [volume]).pairs
    np.testing.assert_array_equal(several[1].noisy, alone.noisy)


@pytest.mark.parametrize("name", ["unet3d", "lowdose_unet2d"])
def test_validation_and_comparison_score_the_same_images(volume, name):
    recipe = tiny(name, "window.high_hu=0", "window.clip=false")
    assert recipe.window.unit(volume.hu).max() > 1
    validated = pair(recipe, volume)
    level = Level("", recipe.noise)
    comparison = Comparison((), [volume], (), [level], recipe.window, NeighbourMean())
    compared = ComparedCase(comparison, volume, level)
    np.testing.assert_array_equal(compared.clean, validated.clean)
    np.testing.assert_array_equal(compared.noisy, validated.noisy)


def test_scans_without_clean_images_are_scored_against_the_slices_on_either_side():
    rng = np.random.default_rng(0)
    anatomy = np.where(np.arange(64) < 32, -300, 0) * np.ones((12, 64, 64))
    anatomy[6, 20:40, 36:60] = 250  # an organ that neighbouring slices do not show
    hu = np.rint(anatomy + rng.normal(0, 30, anatomy.shape)).astype(np.int16)
    volume = Volume(hu, (1.0, 1.0, 1.0), "own", "")
    recipe = tiny("selfsupervised_unet2d", "validate_slices=12", "noise.apart=1")
    ours = Validation(recipe, [volume])
    (found,) = ours.pairs
    assert not found.known[6, 22:38, 38:58].any()
    assert found.known[:5].mean() > 0.97
    noisy = ours.baselines()["noisy"].cases[""]["own"]
    # The noise of the slice and half the power of that of its neighbours, but at the two ends.
    known = 30 / 1400 * np.sqrt(1.5 * 10 / 12 + 2 * 2 / 12) * np.sqrt(found.known.mean())
    assert noisy.mse**0.5 == pytest.approx(known, rel=0.03)
    perfect = ours._scores(found, Window().unit(anatomy))
    assert perfect.mse < 0.5 * noisy.mse
