from itertools import permutations

import nibabel as nib
import numpy as np
import pytest

from volumes.nifti import open_scan, write_like
from volumes.nifti.read_options import STRICT, ReadOptions

AXES = tuple("".join(order) for order in permutations("ZYX"))
CANONICAL = np.random.default_rng(0).integers(-1000, 500, (5, 8, 7)).astype(np.int16)
UNKNOWN_MM = "has no geometry: its spacing is unknown, and 1 mm is assumed"
ORIGIN = np.array([[0, 0, 0, -30], [0, 0, 0, 20], [0, 0, 0, 10], [0, 0, 0, 0.0]])


@pytest.fixture
def saved(tmp_path):
    """Saves an array with an affine, and opens it."""

    def save(array, affine=None, trust=STRICT, *, forms=True, zooms=None):
        image = nib.Nifti1Image(array, np.eye(4) if affine is None else affine)
        if not forms:
            image.header.set_sform(None, 0)
            image.header.set_qform(None, 0)
            image.header.set_zooms(zooms or (1, 1, 1))
            image = nib.Nifti1Image(array, None, image.header)
        nib.save(image, tmp_path / "scan.nii")
        return open_scan(tmp_path / "scan.nii", trust)

    return save


def stored_as(axes, hu=CANONICAL):
    return np.ascontiguousarray(hu.transpose(["ZYX".index(axis) for axis in axes]))


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("forms", [True, False])
def test_named_axes_give_the_array_as_it_was(saved, axes, forms):
    scan = saved(stored_as(axes), trust=ReadOptions(axes=axes), forms=forms)
    found = scan.canonical(scan.read())
    if axes == "XYZ":  # the header's own order, with the directions that it says
        found = found[::-1, ::-1, :: -1 if forms else 1]
    np.testing.assert_array_equal(found, CANONICAL)
    assert UNKNOWN_MM in scan.warnings
    assert not [odd for odd in scan.warnings if "--axes" in odd]


@pytest.mark.parametrize("axes", AXES)
def test_each_stored_axis_keeps_its_spacing(saved, axes):
    spacing = {"Z": 5.0, "Y": 0.7, "X": 0.7}
    affine = np.diag([*(spacing[axis] for axis in axes), 1.0])
    scan = saved(stored_as(axes), affine, ReadOptions(axes=axes))
    assert scan.spacing_mm == pytest.approx((5.0, 0.7, 0.7))


def test_a_spacing_that_belongs_to_the_names_follows_them(saved):
    """As where (Z, Y, X) arrays are saved with the affine of their (X, Y, Z) scan."""
    affine = np.diag([0.7, 0.7, 5.0, 1.0]) + ORIGIN
    scan = saved(stored_as("ZYX"), affine, ReadOptions(axes="ZYX"))
    assert scan.spacing_mm == pytest.approx((5.0, 0.7, 0.7))
    assert scan.warnings == ("is read with the axes ZYX, although its header says XYZ",)


def test_the_axes_of_the_header_change_nothing(saved):
    affine = np.diag([-0.7, 0.8, 3.0, 1.0]) + ORIGIN
    plain = saved(stored_as("XYZ"), affine)
    named = saved(stored_as("XYZ"), affine, ReadOptions(axes="XYZ"))
    np.testing.assert_array_equal(named.affine, plain.affine)
    assert named.warnings == plain.warnings == ()


def test_the_file_is_written_back_in_its_own_order_and_header(saved, tmp_path):
    scan = saved(stored_as("YXZ"), trust=ReadOptions(axes="YXZ"))
    write_like(scan, scan.read(), tmp_path / "again.nii")
    assert (tmp_path / "again.nii").read_bytes() == scan.path.read_bytes()


@pytest.mark.parametrize(("axes", "likely"), [("ZYX", "ZYX"), ("ZXY", "ZYX"), ("YZX", "YZX")])
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (5.0, 0.7)])
def test_square_sides_that_are_not_in_plane_give_a_warning_with_its_remedy(
    saved, axes, likely, spacing
):
    of = {"Z": spacing[0], "Y": spacing[1], "X": spacing[1]}
    affine = np.diag([*(of[axis] for axis in axes), 1.0])
    scan = saved(stored_as(axes, np.zeros((12, 96, 96), np.int16)), affine)
    assert f"--axes {likely} reads it so" in scan.warnings[-1]
    assert (UNKNOWN_MM in scan.warnings) == (spacing == (1.0, 1.0))


def test_the_geometry_of_another_order_gives_a_warning(saved):
    affine = np.diag([0.7, 0.7, 5.0, 1.0]) + ORIGIN
    scan = saved(np.zeros((3, 512, 512), np.int16), affine)
    assert "--axes ZYX reads it so" in scan.warnings[0]


@pytest.mark.parametrize(("shape", "affine"), [
    ((512, 512, 3), np.diag([-0.7, -0.7, 5, 1]) + ORIGIN),
    ((3, 512, 512), np.diag([3, 0.7, 0.7, 1]) + ORIGIN),  # sagittal slices
    ((40, 96, 96), np.diag([1, 1, 1, 1]) + ORIGIN),  # a part of a scan of cubes
    ((96, 96, 96), np.diag([2, 2, 2, 1])),
    ((96, 96, 12), np.diag([0.7, 0.7, 5, 1])),
])  # fmt: skip
def test_a_true_header_gives_no_warning(saved, shape, affine):
    assert saved(np.zeros(shape, np.int16), affine.astype(float)).warnings == ()


@pytest.mark.parametrize("shape", [(96, 96, 12), (10, 20, 30), (64, 64, 64)])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1)])
def test_an_array_without_geometry_always_gives_a_warning(saved, shape, signs):
    scan = saved(np.zeros(shape, np.int16), np.diag([*signs, 1.0]))
    assert scan.warnings[0] == UNKNOWN_MM
    assert scan.warnings[1] == ("has no geometry: its axes are taken for XYZ. --axes names others")


@pytest.mark.parametrize("axes", ["ZZX", "zyx", "ZY", "ZYXT", ""])
def test_axes_that_are_no_order_of_three_are_refused(axes):
    with pytest.raises(ValueError, match="axes must name X, Y and Z once each"):
        ReadOptions(axes=axes)


def test_the_axes_change_the_key_of_a_cache():
    assert ReadOptions(axes="ZYX", volume=1).mark == "-volume1-ZYX"
