"""`engine denoise` and `info` of a DICOM series: NIfTI comes out, and nothing of the patient."""

import json

import numpy as np
import pytest

from tests.engine import tiny
from volumes import nifti
from volumes.dicom import open_series

pytest.importorskip("pydicom", reason="the extra [dicom] is not installed")

from tests.volumes.dicom.phantom_series import NAME, NUMBER, write_series


@pytest.fixture(scope="module")
def run(tmp_path_factory, cpu):
    folder = tmp_path_factory.mktemp("runs") / "unet2d"
    tiny.untrained(folder, tiny.tiny("unet2d"), cpu)
    return folder


def test_a_series_is_denoised_as_the_nifti_file_of_its_voxels(engine, run, tmp_path, phantom_hu):
    folder = tmp_path / "series"
    write_series(folder, phantom_hu)
    code, out, err = engine("denoise", folder, "-m", run, "--reproducible")
    assert (code, out.split()[0]) == (0, str(tmp_path / "series_denoised.nii.gz")), err
    scan = open_series(folder).loaded()
    nifti.write_like(scan, scan.read(), tmp_path / "same.nii")
    assert engine("denoise", tmp_path / "same.nii", "-m", run, "--reproducible")[0] == 0
    own, same = tmp_path / "series_denoised.nii.gz", tmp_path / "same_denoised.nii"
    assert tiny.content(own) == tiny.content(same)
    assert (tiny.voxels(own) != tiny.voxels(tmp_path / "same.nii")).any()
    about, other = (
        json.loads((tmp_path / f"{n}_denoised.json").read_text()) for n in ("series", "same")
    )
    assert about["input_sha256"] == other["input_sha256"]
    written = tiny.content(own) + (tmp_path / "series_denoised.json").read_bytes() + err.encode()
    for secret in (*NAME.split("^"), NUMBER, "thorax"):
        assert secret.encode() not in written
    code, out, _ = engine("verify", own, "-m", run, "--input", folder, "--again")
    assert code == 0
    assert "the scan that was denoised" in out


def test_a_series_among_several_is_named_by_a_slice(engine, run, tmp_path, phantom_hu):
    write_series(tmp_path / "in", phantom_hu, start="a")
    (one, *_) = write_series(tmp_path / "in", phantom_hu[:5], start="b", series="1.9", number=7)
    code, _, err = engine("denoise", tmp_path / "in", "-m", run)
    assert code == 3
    assert "2 series" in err
    assert len(err.splitlines()) == 1
    code, out, _ = engine("denoise", one, "-m", run, "-o", tmp_path / "out")
    assert (code, out.split()[0]) == (0, f"{tmp_path / 'out' / one.stem}_denoised.nii.gz")
    assert tiny.voxels(tmp_path / "out" / f"{one.stem}_denoised.nii.gz").shape[0] == 5


def test_several_series_are_a_batch_that_can_be_repeated(engine, run, tmp_path, phantom_hu):
    for name in ("one", "two"):
        write_series(tmp_path / name, phantom_hu + (name == "two"))
    command = ["denoise", tmp_path / "one", tmp_path / "two", "-m", run, "-o", tmp_path / "out"]
    assert engine(*command)[0] == 0
    code, _, err = engine(*command)
    assert code == 0
    assert "2 of 2 finished before" in err


def test_no_output_is_named_after_the_patient(engine, run, tmp_path, phantom_hu):
    folder = tmp_path / "Mustermann"
    write_series(folder, phantom_hu)
    code, _, err = engine("denoise", folder, "-m", run)
    assert code == 2
    assert "identifies the patient" in err
    assert [path.name for path in tmp_path.iterdir()] == ["Mustermann"]
    assert engine("denoise", folder, "-m", run, "-o", tmp_path / "case_1.nii.gz")[0] == 0


def test_the_folder_where_one_stands_is_taken(engine, run, tmp_path, phantom_hu, monkeypatch):
    write_series(tmp_path / "series", phantom_hu)
    monkeypatch.chdir(tmp_path / "series")
    assert engine("denoise", ".", "-m", run, "-o", tmp_path / "out.nii.gz")[0] == 0
    assert engine("denoise", ".", "-m", run)[0] == 0
    own = tmp_path / "series_denoised.nii.gz"
    assert tiny.content(own) == tiny.content(tmp_path / "out.nii.gz")


def test_info_describes_a_series_without_its_patient(engine, tmp_path, phantom_hu):
    write_series(tmp_path / "in", phantom_hu)
    code, out, _ = engine("info", tmp_path / "in")
    assert code == 0
    assert "12 x 64 x 64" in out
    assert "3 x 0.8 x 0.7 mm" in out
    assert "Mustermann" not in out


def test_fit_refuses_dicom_and_names_dcm2niix(engine, tmp_path, phantom_hu):
    write_series(tmp_path / "data" / "in", phantom_hu)
    code, _, err = engine("fit", "unet2d", "--data", tmp_path / "data", "--run", tmp_path / "run")
    assert code == 3
    assert "dcm2niix" in err
    assert len(err.splitlines()) == 1


def test_python_takes_the_folder_of_a_series(run, tmp_path, phantom_hu, cpu):
    import engine

    write_series(tmp_path / "in", phantom_hu)
    result = engine.load(run, quiet=True).denoise(tmp_path / "in")
    assert np.shape(result.output.dataobj) == (64, 64, 12)
