import nibabel as nib
import numpy as np
import pytest

from tests.engine.tiny import comment, content, scan_file
from volumes import nifti
from volumes.errors import BadInput

SPACING_MM = (3.0, 0.8, 0.7)


def same(one: nifti.Scan, other: nifti.Scan) -> None:
    assert one.shape == other.shape
    assert one.spacing_mm == other.spacing_mm
    assert one.warnings == other.warnings
    assert one.dtype == other.dtype
    ours, theirs = (scan.canonical(scan.read()) for scan in (one, other))
    np.testing.assert_array_equal(nifti.bits(ours), nifti.bits(theirs))
    np.testing.assert_array_equal(one.hu(ours), other.hu(theirs))


def test_an_array_is_the_file_that_would_be_written_of_it(phantom_hu, tmp_path):
    nifti.write_hu(tmp_path / "scan.nii", phantom_hu, SPACING_MM)
    file = nifti.open_scan(tmp_path / "scan.nii").loaded()
    array = nifti.scan_of_array(phantom_hu, SPACING_MM)
    same(array, file)
    assert array.head == file.head
    assert array.sha256() == file.sha256()


@pytest.mark.parametrize("axes", ["IPL", "RAS", "LPS", "ARI"])
@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<f4", "<f8", ">u2"])
def test_an_image_is_the_file_that_it_was_read_from(phantom_hu, tmp_path, axes, dtype):
    stored = (phantom_hu + 1024).astype(dtype)
    path = scan_file(
        tmp_path / "scan.nii", stored, axes, slope=1.0, inter=-1024.0,
        extension=comment(b"a", dtype[0]),
    )  # fmt: skip
    file, image = nifti.open_scan(path).loaded(), nifti.scan_of_image(nib.load(path))
    same(image, file)
    assert image.head == file.head
    assert image.sha256() == file.sha256()
    again = nifti.image_like(image, image.read())
    np.testing.assert_array_equal(again.get_fdata(), nib.load(path).get_fdata())
    assert image.head + image.read().tobytes(order="F") == content(path)


def test_the_affine_of_an_image_counts(phantom_hu):
    affine = np.diag([-0.7, -0.8, -3.0, 1.0])
    image = nib.Nifti1Image(phantom_hu.T, np.eye(4))
    moved = nib.Nifti1Image(phantom_hu.T, affine, image.header)
    scan = nifti.scan_of_image(moved)
    assert scan.spacing_mm == pytest.approx(SPACING_MM)
    np.testing.assert_array_equal(scan.canonical(scan.read()), phantom_hu)


@pytest.mark.parametrize("kind", [nib.Nifti2Image, nib.Nifti1Pair])
def test_other_kinds_of_nifti_are_images_too(phantom_hu, kind):
    affine = np.diag([-0.7, -0.8, -3.0, 1.0])
    scan = nifti.scan_of_image(kind(phantom_hu.T, affine))
    np.testing.assert_array_equal(scan.canonical(scan.read()), phantom_hu)
    image = nifti.image_like(scan, scan.read())
    assert type(image) is (nib.Nifti2Image if kind is nib.Nifti2Image else nib.Nifti1Image)
    np.testing.assert_array_equal(image.get_fdata().T, phantom_hu)


def test_an_image_of_several_volumes_is_refused(phantom_hu):
    image = nib.Nifti1Image(np.stack([phantom_hu.T] * 2, axis=-1), np.eye(4))
    with pytest.raises(BadInput, match="image: holds 2 volumes, not one 3D volume"):
        nifti.scan_of_image(image)


def test_voxels_in_memory_are_checked_as_those_of_a_file(phantom_hu, tmp_path):
    labels = (phantom_hu > 0).astype(np.uint8)
    path = scan_file(tmp_path / "array", labels)
    with pytest.raises(BadInput) as of_file:
        nifti.open_scan(path).loaded()
    with pytest.raises(BadInput) as of_array:
        nifti.scan_of_array(labels, SPACING_MM)
    assert (of_array.value.cause, type(of_array.value)) == (
        of_file.value.cause,
        type(of_file.value),
    )
