"""Measuring: the identity has the reconstruction's numbers, and a blur is found out."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy import ndimage

from engine.characterization.denoisers import Untouched
from engine.characterization.measuring import QualityProtocol, full_dose, measure
from engine.characterization.quantities import curve_points, quantities
from engine.characterization.verdict import about_reaches, verdicts
from engine.comparison.methods import RECONSTRUCTION
from engine.errors import BadUsage, NumericalFailure
from volumes.phantoms.quality_phantoms import QualityPhantom
from volumes.phantoms.rods import Rod, RodPhantom
from volumes.tomography.geometry import Parallel
from volumes.tomography.scanner import Scanner

CONTRAST = RodPhantom(
    "contrast", 60.0, (Rod("acrylic", 15, 0, 12, 120), Rod("air", -15, 0, 12, -1000))
)
LOW = RodPhantom("low", 60.0, (Rod("3 mm", 12, 0, 3, 60), Rod("6 mm", -12, 0, 6, 25)))
SMALL = QualityPhantom(CONTRAST, LOW, RodPhantom("uniform", 60.0))


@dataclass(frozen=True)
class Blur:
    """A Gaussian filter of the slices."""

    sigma_voxels: float
    label: str = "blur"
    setting: str = "Gaussian"
    reach: int = 0

    def denoise(self, stack_hu, sigma_hu, pixel_mm, photons):
        return ndimage.gaussian_filter(stack_hu, (0, self.sigma_voxels, self.sigma_voxels))


@dataclass(frozen=True)
class Identity(Untouched):
    """A method that returns its input, under another name."""

    label: str = "identity"


@pytest.fixture(scope="module")
def protocol(cpu):
    scanner = Scanner(geometry=Parallel(120, 101), filter="hann")
    return QualityProtocol(SMALL, scanner, 1.0, (1e3, 2e5), realisations=24)


@pytest.fixture(scope="module")
def found(protocol):
    return measure(protocol, [Untouched(), Identity(), Blur(1.0)], lambda text: None)


def test_the_identity_has_exactly_the_numbers_of_the_reconstruction(found) -> None:
    rows = {
        method: [
            (row.photons, row.name, row.of, repr((row.value, row.low, row.high)))
            for row in quantities({RECONSTRUCTION: found[RECONSTRUCTION], method: found[method]})
            if row.method == method
        ]
        for method in (RECONSTRUCTION, "identity")
    }
    assert len(rows["identity"]) > 40
    assert rows["identity"] == rows[RECONSTRUCTION]


def test_noise_falls_with_the_root_of_the_dose(found) -> None:
    low, high = (found[RECONSTRUCTION][photons].noise.sigma_hu for photons in (1e3, 2e5))
    # The regions of 24 realisations know each standard deviation to about 1 %.
    assert low / high == pytest.approx(np.sqrt(200), rel=0.04)


def test_a_blur_multiplies_the_transfer_by_its_own_and_the_noise_power_by_its_square(found) -> None:
    before, after = (found[method][2e5] for method in (RECONSTRUCTION, "blur"))
    for name in ("acrylic", "air"):
        one, other = before.transfers[name], after.transfers[name]
        frequency = one.frequency_per_mm
        # scipy's kernel ends at 4 sigma; frequencies with transfers near zero are noise.
        part = frequency < 0.25
        wanted = np.exp(-2 * (np.pi * frequency) ** 2)[part]
        np.testing.assert_allclose((other.transfer / one.transfer)[part], wanted, atol=0.03)
    frequency, power = before.noise.radial
    part = frequency < 0.25
    ratio = (after.noise.radial[1] / power)[part]
    # Regions of 13 pixels leak power between rings of 1/13 per mm, in which the transfer varies.
    np.testing.assert_allclose(ratio, np.exp(-4 * (np.pi * frequency) ** 2)[part], atol=0.1)


def test_a_blur_lowers_noise_and_raises_psnr_but_detects_no_more(found) -> None:
    before, after = (found[method][1e3] for method in (RECONSTRUCTION, "blur"))
    assert after.noise.sigma_hu < 0.7 * before.noise.sigma_hu
    assert after.psnr_db > before.psnr_db + 3
    for name in LOW.rods:
        one, other = (c.rods[name.name].hotelling.auc for c in (before, after))
        assert other < one + 0.05
    assert not [text for text in verdicts(found) if "and raises the detectability" in text]
    assert [text for text in verdicts(found) if text.startswith("blur at 1e3 photons raises PSNR")]


def test_hu_of_the_reconstruction_are_those_of_the_materials(found) -> None:
    for hu in full_dose(found).hu.values():
        # 120 views of 101 bins leave about 1 HU of streaks; noise is below its standard error.
        assert abs(hu.bias_hu) < 2 + 3 * hu.standard_error_hu


def test_curves_have_every_method_dose_and_insert(found) -> None:
    points = curve_points(found)
    keys = {(point.method, point.photons, point.curve, point.of) for point in points}
    assert len(keys) == 3 * 2 * (1 + len(CONTRAST.rods))


def test_the_same_seed_measures_the_same_numbers(protocol, found) -> None:
    again = measure(protocol, [Untouched()], lambda text: None)
    one, other = (quantities({RECONSTRUCTION: f[RECONSTRUCTION]}) for f in (found, again))
    assert repr(one) == repr(other)


def test_a_mean_of_neighbours_has_its_noise_and_detects_nothing_that_is_not_there(
    protocol, monkeypatch
) -> None:
    monkeypatch.setattr("engine.characterization.hotelling._RESAMPLES", 100)

    @dataclass(frozen=True)
    class Mean(Untouched):
        label: str = "mean"
        reach: int = 7

        def denoise(self, stack_hu, sigma_hu, pixel_mm, photons):
            return ndimage.uniform_filter1d(stack_hu, 3, axis=0)

    invisible = RodPhantom("low", 60.0, (Rod("3 mm", 12, 0, 3, 0), Rod("6 mm", -12, 0, 6, 0)))
    many = replace(
        protocol, phantom=replace(SMALL, low_contrast=invisible), doses=(1e3,), realisations=63
    )
    found = measure(many, [Untouched(), Mean()], lambda text: None)
    before, after = (found[label][1e3] for label in (RECONSTRUCTION, "mean"))
    assert (before.reach, after.reach) == (0, 1)
    assert "1 (mean)" in about_reaches(found)[0]
    assert after.noise.sigma_hu / before.noise.sigma_hu == pytest.approx(3**-0.5, rel=0.03)
    assert "no change of the detectability" in verdicts(found)[0]
    with pytest.raises(BadUsage, match="needs 63 realisations"):
        measure(replace(many, realisations=62), [Untouched(), Mean()], lambda text: None)


def test_an_estimate_that_is_not_finite_is_refused_by_the_name_of_the_method(protocol) -> None:
    @dataclass(frozen=True)
    class Broken(Untouched):
        label: str = "broken"

        def denoise(self, stack_hu, sigma_hu, pixel_mm, photons):
            return stack_hu * np.float32(np.nan)

    with pytest.raises(NumericalFailure, match="broken"):
        measure(protocol, [Untouched(), Broken()], lambda text: None)
