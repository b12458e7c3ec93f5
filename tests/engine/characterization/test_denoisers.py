"""Denoisers: stacks of realisations through methods and networks, as `engine denoise` does."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy import ndimage

from engine.characterization.denoisers import (
    Untouched,
    denoisers,
    measured_reach,
)
from engine.characterization.ensembles import Ensemble, Module
from engine.comparison.methods import RECONSTRUCTION, resolve_methods
from tests.engine.tiny import identity, scan_file, tiny, untrained, voxels
from volumes import random_draws
from volumes.phantoms.rods import Rod, RodPhantom

PHANTOM = RodPhantom("two", 50.0, (Rod("bone", 12, 0, 12, 990), Rod("soft", -12, 0, 12, 60)))


@pytest.fixture(scope="module")
def stack() -> np.ndarray:
    rng = random_draws.rng(0, "test of the denoisers")
    noise = 20 * rng.standard_normal((4, 56, 56))
    return (PHANTOM.image(56, 1.0) + noise).astype(np.float32)


def of(*words: object):
    return denoisers(resolve_methods([str(word) for word in words], "best"))


def test_the_reconstruction_comes_first_and_once(stack) -> None:
    found = of("noisy", "nlm")
    assert [one.label for one in found] == [RECONSTRUCTION, "nlm"]
    np.testing.assert_array_equal(found[0].denoise(stack, 20, 1.0, 1e5), stack)


def test_a_classical_method_works_in_hu_and_knows_the_noise(stack) -> None:
    _, tv = of("tv")
    body = PHANTOM.body.distance_mm(56, 1.0) < 20
    clean = PHANTOM.image(56, 1.0)

    def error(image: np.ndarray) -> float:
        return float(np.sqrt(np.mean((image - clean)[:, body] ** 2)))

    assert error(tv.denoise(stack, 20, 1.0, 1e5)) < 0.7 * error(stack)
    np.testing.assert_allclose(tv.denoise(stack, 0, 1.0, 1e5), stack, atol=1e-3)


def test_a_network_is_applied_as_denoise_applies_it(stack, identity_run) -> None:
    _, network = of(identity_run)
    found = network.denoise(stack, 20, 1.0, 1e5)
    inside = PHANTOM.body.distance_mm(56, 1.0) < 18
    # The identity of this run is exact in the window; bone above the window keeps its values.
    np.testing.assert_allclose(found[:, inside], stack[:, inside], atol=0.01)
    bone = PHANTOM.rods[0].distance_mm(56, 1.0) < 4
    assert found[:, bone].mean() == pytest.approx(990, abs=10)


def test_a_network_of_an_open_window_is_given_what_denoise_gives_it(
    cpu, tmp_path, engine, stack
) -> None:
    recipe = tiny("unet3d", "window.clip=false", "network.width=1", "network.levels=1")
    run = untrained(tmp_path / "open", recipe, cpu, identity).folder
    hu = np.rint(stack).astype(np.int16)
    hu[:, 0, 0], hu[:, 0, 2] = -30_000, 30_000  # far beyond what a network may see
    _, network = of(run)
    scan = scan_file(tmp_path / "scan.nii", hu)
    assert engine("denoise", scan, "-m", run, "-q", "--assume-hu")[0] == 0
    written = voxels(tmp_path / "scan_denoised.nii")
    np.testing.assert_allclose(
        network.denoise(hu.astype(np.float32), 20, 1.0, 1e5), written, atol=1
    )


def test_a_2d_network_sees_one_slice_and_a_3d_network_or_a_prior_its_neighbours(
    identity_run, respr_run
) -> None:
    _, tv, prior, unet3d, respr = of("tv", "prior", identity_run, respr_run)
    assert tv.reach == 0
    assert min(prior.reach, unet3d.reach, respr.reach) > 0


def ensemble(count: int) -> Ensemble:
    rng = random_draws.rng(0, "test of the denoisers", "reach")
    noise = (20 * rng.standard_normal((count, 32, 32))).astype(np.float32)
    body = np.ones((32, 32), np.bool_)
    # No sinogram: nothing is scanned.
    return Ensemble(Module("noise", None, noise[0], body, 1.0), 1e5, noise, 20.0)


@dataclass(frozen=True)
class Mean(Untouched):
    """The mean of neighbouring slices, with a radius that a network may have."""

    label: str = "mean"
    reach: int = 23
    radius: int = 2

    def denoise(self, stack_hu, sigma_hu, pixel_mm, photons):
        return ndimage.uniform_filter1d(stack_hu, 2 * self.radius + 1, axis=0)


def test_the_reach_is_measured_below_the_receptive_radius() -> None:
    some = ensemble(30)
    assert measured_reach(some, Mean()) == 2
    assert measured_reach(some, replace(Mean(), radius=0)) == 0
    assert measured_reach(some, of("prior")[1]) == 4
    assert measured_reach(some, Untouched()) == 0


def test_a_network_that_returns_its_prior_gives_the_mean_of_neighbouring_realisations(
    stack, respr_run
) -> None:
    _, network = of(respr_run)
    body = PHANTOM.rods[1].distance_mm(56, 1.0) < 5
    found = network.denoise(stack, 20, 1.0, 1e5)
    # Four realisations: their weighted mean has about half of the noise.
    assert found[:, body].std() < 0.7 * stack[:, body].std()
