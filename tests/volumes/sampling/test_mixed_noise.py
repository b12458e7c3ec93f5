import numpy as np
import pytest

from volumes import Coloured, Gaussian, LowDose, Mixed, random_draws
from volumes.volume import Volume
from volumes.window import Window

BOTH = Mixed((Gaussian((0.02, 0.04)), Coloured((0.06, 0.08), 0.5, 0.2)), shares=(3, 1))


def test_every_kind_has_its_share_of_the_examples():
    rng = np.random.default_rng(0)
    white = np.mean([BOTH.draw(rng).sigma < 0.05 for _ in range(2000)])
    assert white == pytest.approx(0.75, abs=0.05)
    rng = np.random.default_rng(0)
    equal = Mixed(BOTH.kinds)
    assert np.mean([equal.draw(rng).sigma < 0.05 for _ in range(2000)]) == pytest.approx(
        0.5, abs=0.06
    )


def test_white_and_coloured_examples_of_a_batch_have_noise_of_their_own(cpu):
    white, coloured = (kind.draw(np.random.default_rng(0)) for kind in BOTH.kinds)
    flat = next(d for i in range(9) if (d := BOTH.draw(np.random.default_rng(i))).sigma < 0.05)
    clean = np.full((2, 40, 32, 32, 1), 0.5, np.float32)
    keys = np.stack([random_draws.device_key(0, "noise", i) for i in range(2)])
    sigma = np.float32([white.sigma, coloured.sigma])
    spectra = np.stack([flat.spectrum, coloured.spectrum])
    noise = BOTH.add(clean, sigma, spectra, keys).numpy()[..., 0] - 0.5
    assert noise[0].std() == pytest.approx(white.sigma, rel=0.03)
    assert noise[1].std() == pytest.approx(coloured.sigma, rel=0.03)
    neighbours = [np.corrcoef(n[:, :, 1:].ravel(), n[:, :, :-1].ravel())[0, 1] for n in noise]
    assert abs(neighbours[0]) < 0.02
    assert neighbours[1] > 0.2


def test_its_ends_are_the_widest_of_all_kinds():
    assert BOTH.range == (0.02, 0.08)
    assert BOTH.bounds == Coloured((0.06, 0.08)).bounds


def test_a_level_is_one_of_every_kind():
    assert list(BOTH.at(0.05)) == ["5%", "coloured 5%"]


def test_without_levels_the_first_kind_is_validated():
    clean = np.zeros((2, 8, 8), np.float32)
    volume = Volume(np.zeros((2, 8, 8), np.int16), (1.0, 1.0, 1.0), "case", "")
    expected = Gaussian(0.03).noisy(volume, clean, Window(), 0)
    np.testing.assert_allclose(BOTH.noisy(volume, clean, Window(), 0), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("kinds", "shares"),
    [
        ((), ()), ((Gaussian(), Gaussian(0.2)), ()), ((Gaussian(), LowDose()), ()),
        ((Gaussian(), Coloured()), (1,)), ((Gaussian(), Coloured()), (1, 0)),
    ],
)  # fmt: skip
def test_kinds_that_cannot_be_mixed_are_refused(kinds, shares):
    with pytest.raises(ValueError, match=r"noise\.(kinds|shares) must"):
        Mixed(kinds, shares)
