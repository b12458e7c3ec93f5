"""The same scan in another file, from end to end: training, initial weights, priors, comparison."""

import gzip
import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from tests.engine.tiny import shrinking

NETWORK = "dncnn_plain"


def in_floats(scan, path):
    image = nib.load(scan)
    nib.save(nib.Nifti1Image(image.get_fdata(), image.affine), path)


def compressed_again(scan, path):
    path.write_bytes(gzip.compress(gzip.decompress(scan.read_bytes()), 9, mtime=0))


COPIES = [shutil.copy, compressed_again, in_floats]


def imaging(data, number):
    return data / f"case_{number:05d}" / "imaging.nii.gz"


def fit(engine, data, run, *words, steps=1):
    shrunk = [word for word in shrinking(NETWORK) if not word.startswith(("split.", "steps"))]
    sides = ("split.validation=case_00002", "split.test=case_00003", f"steps={steps}")
    return engine("fit", NETWORK, *shrunk, *sides, *words, "--data", data, "--run", run, "-q")


@pytest.fixture
def data(dataset, tmp_path):
    return shutil.copytree(dataset, tmp_path / "data")


@pytest.fixture(scope="module")
def trained(cpu, dataset, tmp_path_factory):
    from engine.cli.main import run as call

    run = tmp_path_factory.mktemp("runs") / "trained"
    assert fit(lambda *words: call([str(word) for word in words]), dataset, run) == 0
    return run


@pytest.mark.parametrize("copy", COPIES, ids=lambda copy: copy.__name__)
@pytest.mark.parametrize("side", [2, 3])
def test_a_scan_in_training_is_refused_for_validation_and_test(data, engine, tmp_path, copy, side):
    imaging(data, side).unlink()
    copy(imaging(data, 0), imaging(data, side))
    code, _, error = fit(engine, data, tmp_path / "run")
    assert code == 3
    assert f"case_0000{side}: is for {'validation' if side == 2 else 'test'}, and has the" in error
    assert "voxels of case_00000, which is for training" in error


def test_a_scan_twice_in_training_is_told(data, engine, tmp_path):
    imaging(data, 1).unlink()
    in_floats(imaging(data, 0), imaging(data, 1))
    code, _, error = fit(engine, data, tmp_path / "run")
    assert code == 0
    assert "case_00001: has the voxels of case_00000, and counts twice for training" in error


def test_a_resumed_run_knows_its_scans_in_other_files(data, engine, tmp_path):
    run = tmp_path / "run"
    assert fit(engine, data, run)[0] == 0
    scan = imaging(data, 0)
    in_floats(scan, scan.with_name("new.nii.gz"))
    scan.with_name("new.nii.gz").replace(scan)
    code, _, error = fit(engine, data, run, steps=2)
    assert (code, "cases" in error) == (0, False), error
    hu = np.asarray(nib.load(scan).dataobj).copy()
    hu[3, 3, 3] += 1
    nib.save(nib.Nifti1Image(hu, nib.load(scan).affine), scan)
    code, _, error = fit(engine, data, run, steps=3)
    assert code == 5
    assert "holds a run on other cases (training: case_00000" in error


@pytest.mark.parametrize("copy", COPIES, ids=lambda copy: copy.__name__)
def test_initial_weights_know_their_scans_in_other_files(trained, data, engine, tmp_path, copy):
    imaging(data, 2).unlink()
    copy(imaging(data, 0), imaging(data, 2))
    shutil.rmtree(data / "case_00000")
    code, _, error = fit(engine, data, tmp_path / "run", "--from", trained)
    assert code == 5
    assert "case_00002: is for validation, and trained has learned from it as case_00000" in error


@pytest.mark.parametrize("copy", COPIES, ids=lambda copy: copy.__name__)
def test_a_comparison_knows_training_scans_in_other_files(trained, dataset, engine, tmp_path, copy):
    other = tmp_path / "other" / "unknown_name"
    other.mkdir(parents=True)
    copy(imaging(dataset, 1), other / "imaging.nii.gz")
    words = ("evaluate", trained, "--data", other.parent, "--split", "all", "-o", tmp_path / "r")
    code, _, error = engine(*words, "-q")
    assert code == 5
    assert "trained was trained on unknown_name" in error
    assert engine(*words, "-q", "--allow-seen")[0] == 0


def test_a_comparison_accepts_its_scans_in_other_files(trained, data, engine, tmp_path):
    scan = imaging(data, 3)
    in_floats(scan, scan.with_name("new.nii.gz"))
    scan.with_name("new.nii.gz").replace(scan)
    words = ("evaluate", trained, "--data", data, "-o", tmp_path / "report", "-q")
    code, _, error = engine(*words)
    assert code == 0, error


def test_a_scan_that_is_scored_twice_is_told(dataset, engine, tmp_path):
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
    shutil.copy(imaging(dataset, 0), tmp_path / "data" / "a" / "imaging.nii.gz")
    compressed_again(imaging(dataset, 0), tmp_path / "data" / "b" / "imaging.nii.gz")
    words = ("--split", "all", "--no-tuning", "-o", tmp_path / "report", "-q")
    code, _, error = engine("evaluate", "noisy", "--data", tmp_path / "data", *words)
    assert code == 0, error
    assert "b: has the voxels of a, and counts twice" in error


def test_a_run_of_before_still_knows_its_files(trained, data, engine, tmp_path):
    run = tmp_path / "before"
    shutil.copytree(trained, run)
    record = json.loads((run / "run.json").read_text())
    del record["voxels"], record["scores"]
    (run / "run.json").write_text(json.dumps(record))
    code, _, error = fit(engine, data, run, steps=2)
    assert code == 0, error
    assert "is scored by another rule now" in error
    (change,) = json.loads((run / "run.json").read_text())["changes"]
    assert change["rescored"]
    assert change["changed"] == ["scores: version 1 -> 2"]
    code, _, error = fit(engine, data, run, steps=3)
    assert "scored by another rule" not in error
