import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from volumes import nifti
from volumes.dataset import Case
from volumes.dataset.store import Store
from volumes.dataset.twins import twins, voxels_sha256
from volumes.volume import Volume


@pytest.fixture
def hu():
    return np.random.default_rng(0).integers(-900, 1500, (9, 11, 13)).astype(np.int16)


@pytest.fixture
def image(tmp_path, hu):
    nifti.write_hu(tmp_path / "scan.nii.gz", hu, (3.0, 0.8, 0.7))
    return nib.load(tmp_path / "scan.nii.gz")


def renamed(image, path):
    image.header["descrip"] = b"another export"
    nib.save(image, path)


def compressed_again(image, path):
    raw = gzip.decompress(Path(image.get_filename()).read_bytes())
    path.write_bytes(gzip.compress(raw, 9, mtime=0))


def uncompressed(image, path):
    path.with_suffix("").write_bytes(gzip.decompress(Path(image.get_filename()).read_bytes()))
    return path.with_suffix("")


def in_floats(image, path):
    nib.save(nib.Nifti1Image(image.get_fdata(), image.affine), path)


def with_rounding_errors(image, path):
    data = (image.get_fdata() * 1.1).astype("f4") / np.float32(1.1)
    nib.save(nib.Nifti1Image(data, image.affine), path)


def with_an_intercept(image, path):
    stored = (np.asarray(image.dataobj).astype(int) + 1024).astype(np.uint16)
    made = nib.Nifti1Image(stored, image.affine)
    made.header.set_slope_inter(1.0, -1024.0)
    nib.save(made, path)


def in_another_order_of_axes(image, path):
    nib.save(nib.as_closest_canonical(image), path)


def as_a_pair(image, path):
    nib.save(nib.Nifti1Pair(np.asarray(image.dataobj), image.affine), path.with_name("copy.hdr"))
    return path.with_name("copy.hdr")


def as_nifti_2(image, path):
    nib.save(nib.Nifti2Image(np.asarray(image.dataobj), image.affine), path)


def of_another_spacing(image, path):
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine * 2), path)


COPIES = [renamed, compressed_again, uncompressed, in_floats, with_rounding_errors,
          with_an_intercept, in_another_order_of_axes, as_a_pair, as_nifti_2,
          of_another_spacing]  # fmt: skip


@pytest.mark.parametrize("copy", COPIES, ids=lambda copy: copy.__name__)
def test_a_scan_is_recognised_in_another_file(tmp_path, image, copy):
    path = tmp_path / "copy.nii.gz"
    path = copy(image, path) or path
    store = Store(tmp_path / "store")
    one = store.volume(Case("one", tmp_path / "scan.nii.gz"))
    other = store.volume(Case("other", path))
    assert one.sha256 != other.sha256
    assert one.voxels_sha256 == other.voxels_sha256
    (found,) = twins([("training", one), ("test", other)])
    assert found == ("test", "other", "training", "one")


def changed(hu, place, by):
    other = hu.copy()
    other[place] += by
    return other


@pytest.mark.parametrize("place", [(0, 0, 0), (4, 5, 6), (8, 10, 12)])
def test_one_voxel_of_one_hu_makes_another_scan(hu, place):
    assert voxels_sha256(changed(hu, place, 1)) != voxels_sha256(hu)


def test_a_narrow_range_is_compared_to_the_bit():
    unit = np.random.default_rng(0).uniform(0, 1, (4, 5, 6)).astype(np.float32)
    assert voxels_sha256(unit) == voxels_sha256(unit.copy())
    assert voxels_sha256(unit) != voxels_sha256(changed(unit, (1, 2, 3), np.float32(1e-6)))


def test_scans_of_one_value_are_no_twins():
    hu = np.full((3, 4, 5), -1000, np.int16)
    volumes = [Volume(hu, (1, 1, 1), name, name, voxels_sha256=voxels_sha256(hu)) for name in "ab"]
    assert not list(twins(("training", volume) for volume in volumes))


def test_every_copy_is_named_with_the_first_scan(hu):
    volumes = [Volume(hu, (1, 1, 1), name, name, voxels_sha256="same") for name in "abc"]
    found = list(twins(("training", volume) for volume in volumes))
    assert [(each.case, each.other) for each in found] == [("b", "a"), ("c", "a")]
