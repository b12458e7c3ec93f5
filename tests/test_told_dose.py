"""Networks that are told the dose: in training, in comparison, in use."""

import math
from dataclasses import replace

import numpy as np
import pytest

from engine.checkpoints import checkpoint
from engine.networks import DnCNN, ResidualUNet2D
from engine.runs.run import Run
from tests.engine.tiny import scan_file, shrinking, tiny
from volumes import Gaussian, LowDose, SparseView
from volumes.phantoms.abdomen import abdomen
from volumes.sampling.examples import Examples
from volumes.tomography.photon_noise import log_dose
from volumes.volume import Volume

RANGE = "noise.photons=1e4,1e6"


@pytest.fixture(scope="module")
def scans(cpu, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans")
    for i in range(4):
        hu, _ = abdomen((3, 32, 36), rng=np.random.default_rng(i))
        (folder / f"case_{i}").mkdir()
        scan_file(folder / f"case_{i}" / "imaging.nii.gz", hu, spacing_mm=(3.0, 9.0, 9.0))
    return folder


@pytest.fixture(scope="module")
def run(scans, tmp_path_factory):
    """A tiny training that was told doses between 1e4 and 1e6 photons a ray."""
    from engine.cli.main import run

    folder = tmp_path_factory.mktemp("runs") / "told"
    words = [*shrinking("lowdose_unet2d"), RANGE, "network.sees_dose=true", "steps=6"]
    assert run(["fit", "lowdose_unet2d", *words, "--data", str(scans), "--run", str(folder)]) == 0
    return folder


def test_what_is_told_of_a_dose_makes_equal_steps_of_equal_ratios():
    assert log_dose(1e5) == 0
    assert log_dose(1e6) == 1
    assert log_dose(2e5) - log_dose(1e5) == pytest.approx(log_dose(8e4) - log_dose(4e4))


@pytest.mark.parametrize(("network", "more"), [(ResidualUNet2D(), 8), (DnCNN(), 64)], ids=str)
def test_a_second_channel_costs_one_more_kernel_a_feature(cpu, network, more):
    one, other = (replace(network, sees_dose=sees).build() for sees in (False, True))
    assert other.count_params() - one.count_params() == 9 * more
    assert [given.name for given in other.inputs] == ["noisy", "dose"]


@pytest.mark.parametrize("network", [ResidualUNet2D(2, 2), DnCNN(3, 2)], ids=str)
def test_the_dose_reaches_every_voxel_of_its_own_example_alone(cpu, network):
    model = replace(network, sees_dose=True).build()
    noisy = np.random.default_rng(0).random((2, 1, 8, 8, 1), np.float32)
    dose = np.zeros((2, 1, 1, 1, 1), np.float32)
    before = model([noisy, dose], training=False).numpy()
    dose[1] = 1
    change = np.abs(model([noisy, dose], training=False).numpy() - before)
    assert not change[0].any()
    assert (change[1] > 0).all()


def test_an_example_tells_the_dose_that_its_slices_were_scanned_with(monkeypatch):
    scanned = []

    def slices(noise, volume, rows, rng, seed, leader):
        scanned.append(noise.drawn(rng).dose.photons)
        return volume.hu[list(rows)]

    monkeypatch.setattr(LowDose, "example", slices)
    recipe = tiny("lowdose_dncnn", RANGE, "crop.patches=2")
    hu, spacing_mm = abdomen((3, 32, 32), rng=np.random.default_rng(0))
    examples = Examples([Volume(hu, spacing_mm, "a", "")], recipe.crop, recipe.noise, None, 0)
    doses = [examples[i].dose for i in range(8)]
    assert doses == [log_dose(photons) for photons in scanned for _ in range(2)]
    assert len(set(doses)) == 4


@pytest.mark.parametrize("noise", [Gaussian(0.1), SparseView(60, 1e5)], ids=str)
def test_a_network_that_is_told_the_dose_wants_noise_that_has_one(noise):
    recipe = tiny("lowdose_unet2d", "network.sees_dose=true")
    with pytest.raises(ValueError, match="sees_dose must be false where the noise has no dose"):
        replace(recipe, noise=noise)


def test_white_noise_has_no_dose(dataset):
    recipe = tiny("unet2d")
    hu, spacing_mm = abdomen((3, 32, 32), rng=np.random.default_rng(0))
    examples = Examples([Volume(hu, spacing_mm, "a", "")], recipe.crop, recipe.noise, None, 0)
    assert math.isnan(examples[0].dose)


def test_a_training_that_is_told_doses_resumes_with_the_same_bits(scans, run, engine, tmp_path):
    parts = tmp_path / "parts"
    for steps in (2, 6):
        words = [*shrinking("lowdose_unet2d"), RANGE, "network.sees_dose=true", f"steps={steps}"]
        code, _, error = engine("fit", "lowdose_unet2d", *words, "--data", scans, "--run", parts)
        assert code == 0, error
    one, other = (checkpoint.fingerprint(Run(r).checkpoint("last")) for r in (run, parts))
    assert one == other


def test_a_scan_is_denoised_by_the_dose_that_it_is_said_to_have(scans, run, engine, tmp_path):
    scan, found = scans / "case_0" / "imaging.nii.gz", []
    for photons in ("1e4", "1e6", "1e6"):
        out = tmp_path / f"{len(found)}.nii.gz"
        words = ["-m", run, "--photons", photons, "-o", out, "-q"]
        code, _, error = engine("denoise", scan, *words, "--devices", "cpu")
        assert code == 0, error
        found.append(out.read_bytes())
        assert (
            f'"photons": {float(photons)}'
            in out.with_name(out.name.replace(".nii.gz", ".json")).read_text()
        )
    assert found[0] != found[1]
    assert found[1] == found[2]


def test_a_dose_that_is_missing_or_not_heard_is_refused(scans, run, trained, engine):
    scan = scans / "case_0" / "imaging.nii.gz"
    code, _, error = engine("denoise", scan, "-m", run)
    assert code == 2
    assert "--photons: is missing" in error
    code, _, error = engine("denoise", scan, "-m", trained, "--photons", "1e5")
    assert code == 2
    assert "takes no dose" in error
    assert [path.name for path in scan.parent.iterdir()] == ["imaging.nii.gz"]


@pytest.fixture(scope="module")
def trained(scans, tmp_path_factory):
    from engine.cli.main import run

    folder = tmp_path_factory.mktemp("runs") / "deaf"
    words = ["fit", "unet2d", *shrinking("unet2d"), "--data", str(scans), "--run", str(folder)]
    assert run(words) == 0
    return folder


def test_a_comparison_tells_each_level_its_own_dose(scans, run, engine, tmp_path):
    from engine.comparison.applied_network import AppliedNetworks
    from engine.comparison.methods import resolve_methods

    networks = AppliedNetworks(resolve_methods([str(run)], "last"))
    low, high = (networks.at(LowDose(photons))["told"] for photons in (1e4, 1e6))
    noisy = np.random.default_rng(0).random((2, 32, 36), np.float32)
    estimates = [network.estimate(noisy, 0.1, (3, 1, 1), None) for network in (low, high)]
    assert np.abs(estimates[0] - estimates[1]).max() > 0
    assert networks.at(LowDose(1e4))["told"] is low

    words = ["--data", scans, "--as", "low_dose:1e4,1e6", "-o", tmp_path / "report"]
    code, _, error = engine("evaluate", run, *words)
    assert code == 0, error


@pytest.mark.parametrize(
    "words", [["--noise", "gaussian:0.1"], ["--as", "low_dose:1e5,sparse_view:60"]]
)
def test_a_comparison_without_a_dose_is_refused(scans, run, engine, tmp_path, words):
    code, _, error = engine("evaluate", run, *words, "--data", scans, "-o", tmp_path / "report")
    assert code == 2
    assert "has no dose, which told needs" in error


def test_a_prior_is_not_made_by_a_network_that_wants_the_dose(scans, run, engine, tmp_path):
    words = [*shrinking("respr_unet3d"), f"prior={run}", "--data", scans, "--run", tmp_path / "r"]
    code, _, error = engine("fit", "respr_unet3d", *words)
    assert code == 5
    assert "sees the dose, but a prior is given none" in error
