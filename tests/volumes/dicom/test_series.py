"""DICOM series become scans: HU and geometry are those that SimpleITK reads."""

from pathlib import Path

import numpy as np
import pytest

from volumes import nifti
from volumes.dataset.layouts import look
from volumes.dicom import open_ct, open_series, slices
from volumes.errors import BadInput
from volumes.nifti.read_options import ReadOptions

pydicom = pytest.importorskip("pydicom", reason="the extra [dicom] is not installed")

from tests.volumes.dicom.phantom_series import NAME, NUMBER, write_series  # noqa: E402

OBLIQUE = (0.8, 0.6, 0.0, -0.6, 0.8, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)


def read_by_simpleitk(folder: Path):
    """(Z, Y, X) HU in the order of the series, and its affine in RAS millimetres."""
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK, the reference, is not installed")
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) @ np.diag(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image), np.diag([-1, -1, 1, 1]) @ affine


@pytest.mark.parametrize(
    "directions", [(1.0, 0, 0, 0, 1.0, 0), (-1.0, 0, 0, 0, -1.0, 0), OBLIQUE, CORONAL]
)
@pytest.mark.parametrize(("slope", "inter"), [(1.0, -1024.0), (0.5, -1000.0)])
def test_hu_and_geometry_are_those_of_simpleitk(tmp_path, phantom_hu, directions, slope, inter):
    write_series(tmp_path, phantom_hu, directions=directions, slope=slope, inter=inter)
    scan = open_series(tmp_path).loaded()
    hu, affine = read_by_simpleitk(tmp_path)
    np.testing.assert_array_equal(scan.hu(scan.read()), hu.transpose())
    np.testing.assert_allclose(scan.affine, affine, atol=1e-4)
    assert np.ptp(hu) > 500


def test_a_written_series_is_read_by_nibabel_with_the_same_hu_and_place(tmp_path, phantom_hu):
    import nibabel

    write_series(tmp_path / "in", phantom_hu)
    scan = open_series(tmp_path / "in").loaded()
    nifti.write_like(scan, scan.read(), tmp_path / "out.nii.gz")
    image = nibabel.load(tmp_path / "out.nii.gz")
    hu, affine = read_by_simpleitk(tmp_path / "in")
    np.testing.assert_array_equal(image.get_fdata(), hu.transpose())
    np.testing.assert_allclose(image.affine, affine, atol=1e-4)
    assert nifti.open_scan(tmp_path / "out.nii.gz").sha256() != scan.sha256()  # compressed
    nifti.write_like(scan, scan.read(), tmp_path / "out.nii")
    assert nifti.open_scan(tmp_path / "out.nii").sha256() == scan.sha256()
    for secret in (NAME.split("^")[0], NAME.split("^")[1], NUMBER, "thorax", "1.2.3"):
        assert secret.encode() not in (tmp_path / "out.nii").read_bytes()


def test_canonical_slices_go_from_the_head_to_the_feet(tmp_path, phantom_hu):
    write_series(tmp_path, phantom_hu)  # the lowest slice first
    scan = open_series(tmp_path)
    np.testing.assert_array_equal(scan.read_hu(), phantom_hu[::-1])
    assert scan.spacing_mm == pytest.approx((3.0, 0.8, 0.7))


def test_slices_of_differing_scaling_become_float32_hu(tmp_path, phantom_hu):
    def each(z, slice_):
        slice_.RescaleIntercept = -1024 + z

    write_series(tmp_path, phantom_hu, each=each)
    scan = open_series(tmp_path).loaded()
    assert scan.dtype == np.float32
    np.testing.assert_array_equal(scan.hu(scan.read()), read_by_simpleitk(tmp_path)[0].T)


def test_signed_pixels_and_unused_bits_are_read(tmp_path, phantom_hu):
    def each(z, slice_):
        slice_.PixelRepresentation, slice_.RescaleIntercept = 1, 0
        signed = phantom_hu[z].astype(np.int16)
        slice_.PixelData = (signed & 0x0FFF).astype(np.uint16).tobytes()  # 12 of 16 bits

    write_series(tmp_path, np.maximum(phantom_hu, -1000), each=each)
    scan = open_series(tmp_path).loaded()
    np.testing.assert_array_equal(scan.read_hu(), phantom_hu[::-1])


def test_compressed_pixels_are_read(tmp_path, phantom_hu):
    write_series(tmp_path, phantom_hu, compressed=True)
    np.testing.assert_array_equal(open_series(tmp_path).read_hu(), phantom_hu[::-1])


def test_a_series_is_chosen_by_one_of_its_slices(tmp_path, phantom_hu):
    write_series(tmp_path, phantom_hu, start="a", ConvolutionKernel="B31f")
    (other, *_) = write_series(tmp_path, phantom_hu[:5], start="b", series="1.9", number=7)
    with pytest.raises(BadInput) as refusal:
        open_ct(tmp_path)
    words = str(refusal.value)
    assert "2 series: CT series 2, kernel B31f, 12 files (a" in words
    assert "CT series 7, 5 files (b" in words
    assert "Mustermann" not in words
    assert "thorax" not in words
    assert open_ct(other).shape[0] == 5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"step_mm": (0, 0.5, 2.9)}, "gantry tilted by 9.8 degrees"),
        ({"Modality": "MR"}, "modality MR, not CT"),
        ({"NumberOfFrames": 3}, "enhanced CT.*dcm2niix"),
        ({"RescaleType": "Z_EFF"}, "other units than HU"),
        ({"step_mm": (0, 0, 0)}, "two slices in one place"),
    ],
)
def test_what_is_no_straight_ct_is_refused_in_one_line(tmp_path, phantom_hu, change, words):
    write_series(tmp_path, phantom_hu, **change)
    with pytest.raises(BadInput, match=words) as refusal:
        open_series(tmp_path)
    assert "\n" not in str(refusal.value)
    assert "Mustermann" not in str(refusal.value)


def test_a_missing_slice_is_refused_and_a_missing_end_cannot_be_seen(tmp_path, phantom_hu):
    paths = write_series(tmp_path, phantom_hu)
    paths[-1].unlink()
    assert open_series(tmp_path).shape[0] == 11
    paths[4].unlink()
    with pytest.raises(BadInput, match=rf"3 to 6 mm: slices are missing.*{paths[3].name}"):
        open_series(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"ImageOrientationPatient": list(OBLIQUE)},
        {"PixelSpacing": [0.8, 0.8]},
        {"BitsStored": 16, "HighBit": 15},
    ],
)
def test_slices_that_differ_are_refused(tmp_path, phantom_hu, change):
    def each(z, slice_):
        for name, value in change.items() if z == 3 else ():
            setattr(slice_, name, value)

    write_series(tmp_path, phantom_hu, each=each)
    with pytest.raises(BadInput, match="has slices of other"):
        open_series(tmp_path)


@pytest.mark.parametrize("name", ["ImagePositionPatient", "RescaleSlope", "PixelSpacing"])
def test_a_slice_without_a_field_that_is_needed_is_refused(tmp_path, phantom_hu, name):
    write_series(tmp_path, phantom_hu, each=lambda z, slice_: delattr(slice_, name))
    with pytest.raises(BadInput, match=f"has no {name}"):
        open_series(tmp_path)


def test_pixels_that_end_early_are_refused(tmp_path, phantom_hu):
    def each(z, slice_):
        slice_.PixelData = slice_.PixelData[: 100 if z == 3 else None]

    write_series(tmp_path, phantom_hu, each=each)
    scan = open_series(tmp_path)
    with pytest.raises(BadInput, match=r"cannot be decoded.*dcm2niix"):
        scan.loaded()


def test_a_slice_that_changes_is_refused(tmp_path, phantom_hu):
    paths = write_series(tmp_path, phantom_hu)
    scan = open_series(tmp_path)
    paths[2].write_bytes(paths[3].read_bytes() + b"\0\0")
    with pytest.raises(BadInput, match="was changed"):
        scan.loaded()


def test_other_files_are_a_warning_and_the_size_has_a_limit(tmp_path, phantom_hu):
    write_series(tmp_path, phantom_hu)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "DICOMDIR").write_text("x")
    assert open_series(tmp_path).warnings == ("holds files that are not DICOM: notes.txt",)
    with pytest.raises(BadInput, match="--max-gib"):
        open_series(tmp_path, ReadOptions(gib=1e-6))


def test_without_pydicom_one_line_names_the_extra_and_dcm2niix(tmp_path, phantom_hu, monkeypatch):
    write_series(tmp_path, phantom_hu[:2])
    monkeypatch.setattr(slices, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"respr-engine\[dicom\].*dcm2niix") as refusal:
        open_ct(tmp_path)
    assert "\n" not in str(refusal.value)


def test_a_data_set_of_dicom_is_refused_and_names_dcm2niix(tmp_path, phantom_hu):
    write_series(tmp_path / "patient" / "series", phantom_hu[:2])
    with pytest.raises(BadInput, match=r"DICOM files.*dcm2niix"):
        look(tmp_path)


def test_a_name_identifies_the_patient_unless_identity_was_removed(tmp_path, phantom_hu):
    write_series(tmp_path / "a", phantom_hu)
    scan = open_series(tmp_path / "a")
    assert scan.identifies("mustermann_denoised.nii.gz")
    assert scan.identifies("X_Erika.nii")
    assert scan.identifies("pid-4711.nii.gz")
    assert not scan.identifies("case_00001_denoised.nii.gz")
    assert "mustermann" not in repr(scan)
    write_series(tmp_path / "b", phantom_hu, PatientIdentityRemoved="YES")
    assert not open_series(tmp_path / "b").identifies("mustermann.nii.gz")
