import re

import nibabel as nib
import numpy as np
import pytest

from tests.gates.catalogue import HU, IPL, content, head
from volumes.errors import BadInput
from volumes.nifti import open_scan, write_like
from volumes.nifti.checked_stream import open_stream
from volumes.nifti.header import read_header
from volumes.nifti.orientation import axes, canonical_affine, spacing_mm


@pytest.fixture
def judged(tmp_path):
    """The affine of a header, and the warnings about it."""

    def read(**fields):
        (tmp_path / "scan.nii").write_bytes(content(**fields))
        with open_stream(tmp_path / "scan.nii") as stream:
            header = read_header(stream)
        return header.affine, header.warnings

    return read


def test_the_sform_is_preferred_to_the_quaternion_and_a_difference_gives_a_warning(judged):
    affine, found = judged(qoffset_x=35.0)
    np.testing.assert_allclose(affine, IPL, atol=1e-5)
    assert found == ("has a qform up to 5 mm away from its sform: the sform is used",)


def test_forms_that_differ_by_rounding_are_the_same(judged):
    assert judged(qoffset_x=30.01)[1] == ()


def test_both_forms_come_back_to_the_byte(tmp_path):
    (tmp_path / "scan.nii").write_bytes(content(qoffset_x=35.0, sform_code=300))
    scan = open_scan(tmp_path / "scan.nii")
    write_like(scan, scan.read(), tmp_path / "again.nii")
    assert (tmp_path / "again.nii").read_bytes() == (tmp_path / "scan.nii").read_bytes()


@pytest.mark.parametrize("beyond", [1e-7, 4e-6])
def test_a_quaternion_that_was_rounded_beyond_one_is_half_a_turn(judged, beyond):
    turn = {"quatern_b": 0.0, "quatern_c": float(np.sqrt(1 + beyond)), "quatern_d": 0.0}
    affine, found = judged(sform_code=0, **turn)
    assert axes(affine) == "LAI"
    assert found == ()


def test_a_quaternion_that_nearly_has_no_real_part_is_not_rounded(judged):
    """A tolerance for what lies beyond one must not turn what lies within it."""
    angle = np.pi - 2 * 2e-3
    made = {"quatern_b": float(np.sin(angle / 2)), "quatern_c": 0.0, "quatern_d": 0.0}
    affine, _ = judged(sform_code=0, pixdim=[1, 1, 1, 1], **made)
    assert np.degrees(np.arccos(affine[1, 1])) == pytest.approx(np.degrees(angle), abs=0.03)


def test_an_impossible_quaternion_is_refused_without_a_sform(judged):
    with pytest.raises(BadInput, match="quaternion is impossible"):
        judged(sform_code=0, quatern_b=2.0)
    assert judged(quatern_b=2.0)[1] == ("has an impossible quaternion: its sform is used",)


def test_a_quaternion_beyond_all_numbers_is_impossible(tmp_path):
    block = content(kind=nib.Nifti2Header, quatern_b=1e300, quatern_c=1e308)
    (tmp_path / "scan.nii").write_bytes(block)
    assert "impossible quaternion" in open_scan(tmp_path / "scan.nii").warnings[0]


@pytest.mark.parametrize("size", [0.0, -0.7, float("nan"), float("inf")])
def test_impossible_voxel_sizes_are_refused_without_a_sform(judged, size):
    affine, found = judged(pixdim=[1, 3, size, 0.7])
    np.testing.assert_allclose(affine, IPL, atol=1e-5)
    assert "impossible voxel sizes" in found[0]
    with pytest.raises(BadInput, match="has voxels of 3 x "):
        judged(pixdim=[1, 3, size, 0.7], sform_code=0)
    with pytest.raises(BadInput, match="has voxels of 3 x "):
        judged(pixdim=[1, 3, size, 0.7], sform_code=0, qform_code=0)


def test_a_scan_that_does_not_say_how_it_lies_is_taken_as_nibabel_takes_it(tmp_path):
    (tmp_path / "scan.nii").write_bytes(content(sform_code=0, qform_code=0))
    scan = open_scan(tmp_path / "scan.nii")
    assert scan.axes == "LAS"
    assert "left, anterior, up" in scan.warnings[0]
    np.testing.assert_allclose(scan.affine, nib.load(tmp_path / "scan.nii").affine)


@pytest.mark.parametrize("spacing", [1e-5, 1e5])
def test_voxels_of_no_scanner_are_refused(judged, spacing):
    with pytest.raises(BadInput, match="has voxels of"):
        judged(srow_x=[0, 0, -spacing, 0])


def test_the_canonical_affine_leads_to_the_same_places(tmp_path):
    for number, order in enumerate(("LPS", "RAS", "SPR")):
        turn = nib.orientations.ornt_transform(
            nib.orientations.axcodes2ornt("IPL"), nib.orientations.axcodes2ornt(order)
        )
        image = nib.Nifti1Image(HU, IPL).as_reoriented(turn)
        nib.save(image, tmp_path / f"{number}.nii")
        found = canonical_affine(open_scan(tmp_path / f"{number}.nii").affine, image.shape)
        np.testing.assert_allclose(found, IPL, atol=1e-5)


def sheared(degrees, *, step_mm=5.0):
    """The affine of slices whose gantry was tilted while the table moved along the body."""
    tilt, affine = np.radians(degrees), np.diag([-0.8, -0.8, step_mm, 1.0])
    affine[:3, 1] = 0, -0.8 * np.cos(tilt), -0.8 * np.sin(tilt)
    return affine


def rows(affine):
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    return {f"srow_{name}": row for name, row in zip("xyz", affine, strict=False)} | {
        "qform_code": 0, "pixdim": [1, *sizes]
    }  # fmt: skip


@pytest.mark.gate("G8")
def test_slices_of_a_tilted_gantry_are_as_far_apart_as_their_planes(judged, faults) -> None:
    for turn in range(faults.times(push=50, soak=1000)):
        draw = faults.random(turn)
        degrees, step_mm = draw.uniform(1, 40), draw.uniform(0.6, 10)
        affine, found = judged(**rows(sheared(degrees, step_mm=step_mm)))
        apart_mm = step_mm * np.cos(np.radians(degrees))
        assert spacing_mm(affine) == pytest.approx((apart_mm, 0.8, 0.8), rel=1e-5)
        (words,) = found
        told, apart, step = map(float, re.findall(r"[\d.]+(?= degrees| mm)", words))
        assert told == pytest.approx(degrees, rel=0.06)
        assert (apart, step) == pytest.approx((apart_mm, step_mm), rel=0.01)
        faults.handled()


def test_axes_that_are_sheared_by_rounding_are_straight(judged):
    affine, found = judged(**rows(sheared(0.4)))
    assert found == ()
    assert spacing_mm(affine) == pytest.approx((5.0, 0.8, 0.8), rel=1e-6)


def test_a_pixel_that_is_no_rectangle_gives_a_warning_and_slices_keep_their_distance(judged):
    skew = np.diag([-0.8, -0.8, 5.0, 1.0])
    skew[0, 1] = 0.8 * np.tan(np.radians(10))
    affine, found = judged(**rows(skew))
    assert found == ("has axes that are sheared by 10 degrees",)
    assert spacing_mm(affine)[0] == pytest.approx(5.0)


def test_a_rotated_scan_is_not_sheared(judged):
    turn = nib.eulerangles.euler2mat(0.3, -0.2, 0.1)
    turned = np.eye(4)
    turned[:3, :3] = turn @ np.diag([-0.8, -0.8, 5.0])
    affine, found = judged(**rows(turned))
    assert found == ()
    assert spacing_mm(affine) == pytest.approx((5.0, 0.8, 0.8), rel=1e-5)


@pytest.mark.parametrize("code", [0, 1])
def test_pixdim_that_is_not_the_sform_gives_a_warning_and_the_sform_is_used(judged, code):
    affine, found = judged(pixdim=[1, 2, 2, 2], qform_code=code)
    assert spacing_mm(affine) == pytest.approx((3.0, 0.8, 0.7), rel=1e-6)
    assert found == (
        "has voxels of 2 x 2 x 2 mm by its pixdim, but of 3 x 0.8 x 0.7 mm by its sform: the sform "
        "is used, as the NIfTI standard says",
    )
    assert judged(pixdim=[1, 3.02, 0.798, 0.7], qform_code=0)[1] == ()


def test_pixdim_may_give_the_distance_of_slices_or_the_step_of_the_table(judged):
    for mm in (5.0, 5.0 * np.cos(np.radians(30))):
        (words,) = judged(**rows(sheared(30)) | {"pixdim": [1, 0.8, 0.8, mm]})[1]
        assert "sheared" in words


def test_a_head_of_the_catalogue_is_one_that_nibabel_takes():
    assert nib.Nifti1Header(head(HU.shape)[:348]).get_best_affine() == pytest.approx(IPL)
