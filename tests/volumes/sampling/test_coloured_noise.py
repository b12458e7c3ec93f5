import numpy as np
import pytest
from scipy import stats

from volumes import Coloured, random_draws
from volumes.sampling.noise_spectrum import Spectrum


def drawn(noise, n=2000):
    rng = np.random.default_rng(0)
    return [noise.draw(rng) for _ in range(n)]


def test_sigma_is_drawn_as_that_of_white_noise_is():
    sigma = [each.sigma for each in drawn(Coloured((0.05, 0.25)))]
    assert stats.kstest(sigma, "uniform", (0.05, 0.2)).pvalue > 1e-3


def test_the_cutoff_is_drawn_evenly_in_its_logarithm():
    fall = np.array([each.spectrum[1] for each in drawn(Coloured(cutoff=(0.1, 0.4)))])
    logs = -np.log(fall) / 2  # of the cutoff, whose inverse square the vector holds
    assert stats.kstest(logs, "uniform", (np.log(0.1), np.log(4))).pvalue > 1e-3


def test_the_exponent_is_drawn_evenly_and_grain_in_every_direction():
    vectors = np.array([each.spectrum for each in drawn(Coloured(stretch=2.0))])
    assert stats.kstest(2 * vectors[:, 0], "uniform", (0.2, 0.8)).pvalue > 1e-3
    lean = vectors[:, 3]  # of the grain: as often to the one side as to the other
    assert abs(np.mean(lean > 0) - 0.5) < 0.06


def test_validation_uses_the_middle_of_all_ranges():
    noise = Coloured((0.02, 0.10), exponent=(0, 1), cutoff=(0.1, 0.4), stretch=(1, 4))
    assert noise.typical == pytest.approx(0.06)
    assert noise.typical_spectrum == Spectrum(0.5, pytest.approx(0.2), 2.0)


def test_a_level_keeps_the_typical_spectrum():
    ((label, noise),) = Coloured(exponent=(0, 1), cutoff=(0.1, 0.4)).at(0.05).items()
    assert label == "coloured 5%"
    assert noise.range == (0.05, 0.05)
    assert noise.typical_spectrum == Spectrum(0.5, pytest.approx(0.2))
    with pytest.raises(ValueError, match="must be positive"):
        Coloured().at(0.0)


def test_the_noise_of_an_example_does_not_depend_on_its_place_in_the_batch(cpu):
    noise, rng = Coloured(stretch=(1, 2), thickness=(0, 1)), np.random.default_rng(0)
    clean = rng.random((2, 3, 16, 24, 1)).astype(np.float32)
    sigma, spectra = np.float32([0.1, 0.2]), np.stack([noise.draw(rng).spectrum for _ in range(2)])
    keys = np.stack([random_draws.device_key(0, "noise", i) for i in range(2)])
    both = noise.add(clean, sigma, spectra, keys).numpy()
    swapped = noise.add(clean[::-1], sigma[::-1], spectra[::-1], keys[::-1]).numpy()
    np.testing.assert_array_equal(both, swapped[::-1])


@pytest.mark.parametrize("thickness", [0.0, 2.0])
def test_noise_is_as_strong_as_sigma_says_on_the_host_and_on_the_device(cpu, thickness):
    noise = Coloured(0.2, exponent=0.5, cutoff=0.3, thickness=thickness)
    clean = np.linspace(0, 1, 20 * 64 * 64, dtype=np.float32).reshape(20, 64, 64)
    host = noise.degrade(clean, 0.2, 0, "case") - clean
    vector = np.stack([noise.draw(np.random.default_rng(0)).spectrum])
    key = np.stack([random_draws.device_key(0, "noise", 0)])
    device = noise.add(clean[None, ..., None], np.float32([0.2]), vector, key).numpy()
    assert host.std() == pytest.approx(0.2, rel=0.03)
    assert (device[0, ..., 0] - clean).std() == pytest.approx(0.2, rel=0.03)


def test_the_noise_of_a_slice_does_not_depend_on_the_block_it_is_in():
    clean = np.random.default_rng(0).random((6, 17, 19)).astype(np.float32)
    whole = Coloured().degrade(clean, 0.1, 3, "a")
    np.testing.assert_array_equal(Coloured().degrade(clean[2:5], 0.1, 3, "a", 2), whole[2:5])


def test_a_spectrum_is_described_in_words():
    assert Coloured.parse("0.05/0.6/0.25") == Coloured(0.05, 0.6, 0.25)
    assert Coloured.parse("0.05").typical_spectrum == Coloured().typical_spectrum
    for text in ("", "0.05/0.6", "0", "0.05/0.6/0", "a"):
        with pytest.raises(ValueError, match=r"."):
            Coloured.parse(text)


@pytest.mark.parametrize(
    "fields",
    [
        {"exponent": -0.1}, {"cutoff": 0.0}, {"cutoff": (0.4, 0.1)}, {"stretch": 0.5},
        {"thickness": float("nan")}, {"sigma": -1.0},
    ],
    ids=str,
)  # fmt: skip
def test_an_impossible_spectrum_is_refused(fields):
    with pytest.raises(ValueError, match=f"noise.{next(iter(fields))} must"):
        Coloured(**fields)
