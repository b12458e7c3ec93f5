"""Scores from end to end: those of `engine evaluate` are recomputed from the files of `degrade`."""

import json

import nibabel as nib
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from engine.comparison.applied_network import AppliedNetwork
from engine.runs.run import Run
from engine.runs.trained_model import open_model
from volumes import Window, nifti

LOW, HIGH = -1000, 400
WINDOW = Window(LOW, HIGH)


def recomputed(clean_path, noisy_path, padding_hu=None):
    """PSNR in dB over all voxels, and SSIM, the mean over slices, of two NIfTI files."""
    clean, noisy = (nib.load(path).get_fdata() for path in (clean_path, noisy_path))
    if padding_hu is not None:
        clean[clean == padding_hu] = noisy[noisy == padding_hu] = -1000
    clean, noisy = (np.clip((hu - LOW) / (HIGH - LOW), 0, 1) for hu in (clean, noisy))
    ssim = {"data_range": 1, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    slices = [structural_similarity(a, b, **ssim) for a, b in zip(clean, noisy, strict=True)]
    return peak_signal_noise_ratio(clean, noisy, data_range=1), float(np.mean(slices))


def body(seed, outside, noise_hu):
    """(6, 64, 64) HU of a body with bone and metal in measured air, in a field of view."""
    rng = np.random.default_rng(seed)
    y, x = np.meshgrid(*(np.linspace(-1, 1, 64),) * 2, indexing="ij")
    hu = np.full((6, 64, 64), -1000.0)
    hu[:, (y / 0.7) ** 2 + (x / 0.8) ** 2 < 1] = rng.uniform(20, 80)
    hu[:, (y - 0.4) ** 2 + x**2 < 0.02] = 900
    hu[:, (y + 0.3) ** 2 + (x - 0.3) ** 2 < 0.01] = 3000
    hu[:, (y + 0.2) ** 2 + (x + 0.4) ** 2 < 0.04] = 430  # bone at the end of the window
    hu += rng.normal(0, noise_hu, hu.shape) if noise_hu else 0
    if outside is not None:
        hu[:, y**2 + x**2 > 1] = outside
    return np.rint(hu).astype(np.int16)


KINDS = {
    "constant air outside the body": (None, 0),
    "measured air": (None, 6),
    "a circle of -1024": (-1024, 6),
    "a circle of -2000": (-2000, 6),
    "a circle of -3024": (-3024, 0),
}


@pytest.fixture(params=KINDS, ids=lambda name: name.replace(" ", "_"))
def scans(request, tmp_path):
    for k in range(2):
        case = tmp_path / "scans" / f"case_{k}"
        case.mkdir(parents=True)
        nifti.write_hu(case / "imaging.nii.gz", body(k, *KINDS[request.param]), (3.0, 0.8, 0.8))
    return tmp_path / "scans"


def evaluated(engine, data, tmp_path, *words):
    code, _, error = engine("evaluate", "noisy", "--data", data, "--split", "all", "--no-tuning",
                            *words, "-o", tmp_path / "report", "-q")  # fmt: skip
    assert code == 0, error
    rows = json.loads((tmp_path / "report" / "report.json").read_text())["rows"]
    return {row["case"]: row["scores"] for row in rows}


@pytest.mark.parametrize("kind", ["gaussian:0.02", "gaussian:0.1", "coloured:0.05/0.6/0.25"])
def test_added_noise_has_the_scores_of_the_files_that_degrade_writes(scans, kind, engine, tmp_path):
    code, _, error = engine("degrade", scans, "--as", kind, "-o", tmp_path / "out", "-q")
    assert code == 0, error
    scores = evaluated(engine, scans, tmp_path, "--noise", kind)
    for case, found in scores.items():
        (noisy,) = (tmp_path / "out" / case).glob(f"{kind.partition(':')[0]}*.nii.gz")
        psnr_db, ssim = recomputed(scans / case / "imaging.nii.gz", noisy)
        assert found["psnr_db"] == pytest.approx(psnr_db, abs=0.01)
        assert found["ssim"] == pytest.approx(ssim, abs=1e-3)


@pytest.mark.parametrize("scans", ["measured air", "a circle of -2000"], indirect=True)
@pytest.mark.parametrize("kind", ["low_dose:1e5", "sparse_view:60"])
def test_a_simulated_scanner_has_the_scores_of_the_files_that_degrade_writes(
    scans, kind, engine, tmp_path
):
    words = ("degrade", scans, "--as", kind, "-o", tmp_path / "out", "--devices", "cpu", "-q")
    code, _, error = engine(*words)
    assert code == 0, error
    scores = evaluated(engine, scans, tmp_path, "--as", kind)
    for case, found in scores.items():
        folder = tmp_path / "out" / case
        (noisy,) = [path for path in folder.glob("*.nii.gz") if path.name != "imaging.nii.gz"]
        psnr_db, ssim = recomputed(folder / "imaging.nii.gz", noisy)
        assert found["psnr_db"] == pytest.approx(psnr_db, abs=0.01)
        assert found["ssim"] == pytest.approx(ssim, abs=1e-3)


def test_a_recording_has_the_scores_of_its_file(scans, engine, tmp_path):
    for k, case in enumerate(sorted(scans.iterdir())):
        clean = nib.load(case / "imaging.nii.gz")
        hu = np.asarray(clean.dataobj).astype(float)
        noisy = hu + np.random.default_rng(k).normal(0, 100, hu.shape)
        noisy = np.where(hu < -1010, hu, noisy)
        nib.save(
            nib.Nifti1Image(np.rint(noisy).astype(np.int16), clean.affine), case / "quarter.nii.gz"
        )
    scores = evaluated(engine, scans, tmp_path, "--noise", "recorded:quarter")
    for case, found in scores.items():
        psnr_db, ssim = recomputed(*(scans / case / f"{n}.nii.gz" for n in ("imaging", "quarter")))
        assert found["psnr_db"] == pytest.approx(psnr_db, abs=0.01)
        assert found["ssim"] == pytest.approx(ssim, abs=1e-3)


def test_the_scores_of_a_network_are_those_of_the_files_that_denoise_writes(cpu, engine, tmp_path):
    from tests.engine.tiny import shrinking

    data, run = tmp_path / "data", tmp_path / "run"
    for k in range(3):  # with bone and metal, which keep their noise
        (data / f"case_{k}").mkdir(parents=True)
        nifti.write_hu(data / f"case_{k}" / "imaging.nii.gz", body(k, None, 6), (3.0, 0.8, 0.8))
    words = [*shrinking("dncnn_plain"), "steps=20", "learning_rate=1e-2", "validate_every=20"]
    assert engine("fit", "dncnn_plain", *words, "--data", data, "--run", run, "-q")[0] == 0
    held = list(json.loads((run / "run.json").read_text())["cases"]["test"])
    code, _, error = engine("evaluate", run, "--data", data, "--noise", "gaussian:0.1",
                            "-o", tmp_path / "report", "-q")  # fmt: skip
    assert code == 0, error
    rows = json.loads((tmp_path / "report" / "report.json").read_text())["rows"]
    assert sorted(row["case"] for row in rows) == sorted(held)
    for row in rows:
        clean = data / row["case"] / "imaging.nii.gz"
        noisy, denoised = (tmp_path / f"{row['case']}_{n}.nii.gz" for n in ("noisy", "denoised"))
        assert engine("degrade", clean, "--as", "gaussian:0.1", "-o", noisy, "-q")[0] == 0
        assert engine("denoise", noisy, "-m", run, "-o", denoised, "-q", "--assume-hu")[0] == 0
        psnr_db, ssim = recomputed(clean, denoised)
        assert row["scores"]["psnr_db"] == pytest.approx(psnr_db, abs=0.01)
        assert row["scores"]["ssim"] == pytest.approx(ssim, abs=5e-4)
        estimate = AppliedNetwork(open_model(Run(run), "best")).estimate(
            WINDOW.unit(nifti.open_scan(noisy).read_hu().astype(np.float32)),
            0.1,
            (3, 0.8, 0.8),
            None,
        )
        written_hu = nifti.open_scan(denoised).read_hu()
        # The file is rounded to whole HU. Above the window, the network is given clipped values.
        apart_hu = np.clip(WINDOW.hu(estimate), LOW, HIGH) - np.clip(written_hu, LOW, HIGH)
        assert np.abs(apart_hu).max() <= 0.51
