import struct

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from tests.gates.catalogue import HU, IPL, content, head
from volumes.errors import BadInput
from volumes.nifti import open_scan, write_derived, write_like
from volumes.nifti.deidentify import cleared
from volumes.nifti.read_options import ReadOptions

UNITS = {"unknown": (0, 1.0), "metres": (1, 1e-3), "millimetres": (2, 1.0), "micrometres": (3, 1e3)}
SPACING_MM = (3.0, 0.8, 0.7)  # of IPL, and of the stored axes


def scaled(unit, **more):
    """Fields of a header whose lengths are in a unit."""
    code, factor = UNITS[unit]
    fields = {f"srow_{axis}": row * factor for axis, row in zip("xyz", IPL[:3], strict=True)}
    fields |= {f"qoffset_{axis}": t * factor for axis, t in zip("xyz", IPL[:3, 3], strict=True)}
    handedness = nib.Nifti1Header(head(HU.shape)[:348])["pixdim"][0]
    fields["pixdim"] = [handedness, *(step * factor for step in SPACING_MM)]
    return {**fields, "xyzt_units": code, **more}


@pytest.fixture
def opened(tmp_path):
    def read(block, name="scan.nii"):
        (tmp_path / name).write_bytes(block)
        return open_scan(tmp_path / name)

    return read


FORMS = {
    "both forms": {},
    "sform": {"qform_code": 0},
    "qform": {"sform_code": 0},
    "voxel sizes alone": {"qform_code": 0, "sform_code": 0},
}


@pytest.mark.parametrize("kind", [nib.Nifti1Header, nib.Nifti2Header])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("unit", UNITS)
def test_the_spacing_is_in_millimetres_whatever_the_unit(opened, unit, form, order, kind):
    scan = opened(content(order=order, kind=kind, **scaled(unit, **FORMS[form])))
    by_letter = dict(zip("XYZ" if "alone" in form else "ZYX", SPACING_MM, strict=True))
    assert scan.spacing_mm == pytest.approx([by_letter[axis] for axis in "ZYX"], rel=1e-6)
    if "alone" not in form:
        np.testing.assert_allclose(scan.affine, IPL, rtol=1e-5, atol=1e-5)
    assert not [odd for odd in scan.warnings if "metres" in odd]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("unit", UNITS)
def test_the_spacing_and_the_origin_are_those_of_simpleitk(opened, unit, form):
    scan = opened(content(**scaled(unit, **FORMS[form])))
    theirs = SimpleITK.ReadImage(str(scan.path))
    ours = np.linalg.norm(scan.affine[:3, :3], axis=0)
    np.testing.assert_allclose(ours, theirs.GetSpacing(), rtol=1e-6)
    if "alone" not in form:  # without a form, SimpleITK puts the first voxel into the origin
        left_posterior_superior = scan.affine[:3, 3] * (-1, -1, 1)
        np.testing.assert_allclose(left_posterior_superior, theirs.GetOrigin(), rtol=1e-5)


@pytest.mark.parametrize("unit", UNITS)
def test_a_pair_has_the_unit_of_its_header(tmp_path, unit):
    block = head(HU.shape, magic=b"ni1", vox_offset=0, **scaled(unit))
    (tmp_path / "scan.hdr").write_bytes(block[:348])
    (tmp_path / "scan.img").write_bytes(HU.tobytes("F"))
    assert open_scan(tmp_path / "scan.hdr").spacing_mm == pytest.approx(SPACING_MM, rel=1e-6)


@pytest.mark.parametrize("time", [0, 8, 16, 24, 32, 40, 48, 0b111000])
@pytest.mark.parametrize("unit", UNITS)
def test_the_unit_of_time_in_the_same_byte_changes_nothing(opened, unit, time):
    fields = scaled(unit)
    four = np.stack([HU, HU], axis=-1)
    block = content(four, **{**fields, "xyzt_units": fields["xyzt_units"] | time})
    (path := opened(content(HU)).path).write_bytes(block)
    scan = open_scan(path, ReadOptions(volume=1))
    assert scan.spacing_mm == pytest.approx(SPACING_MM, rel=1e-6)
    assert scan.warnings == ()


@pytest.mark.parametrize("code", [1, 3])
def test_numbers_that_are_possible_in_millimetres_alone_are_millimetres(opened, code):
    scan = opened(content(xyzt_units=code))
    assert scan.spacing_mm == pytest.approx(SPACING_MM, rel=1e-6)
    (warning,) = scan.warnings
    name = {1: "metres", 3: "micrometres"}[code]
    assert warning.endswith(f"mm in {name}, its unit: millimetres are assumed")


@pytest.mark.parametrize("code", [4, 5, 7])
def test_an_unknown_unit_gives_a_warning(opened, code):
    scan = opened(content(xyzt_units=code))
    assert scan.spacing_mm == pytest.approx(SPACING_MM, rel=1e-6)
    assert scan.warnings == (f"has the unknown unit of length {code}: millimetres are assumed",)


@pytest.mark.parametrize(
    ("code", "factor", "remedy"),
    [(0, 1e-3, "look like metres"), (2, 1e-3, "look like metres"), (2, 1e3, "like micrometres"),
     (2, 1e-6, "xyzt_units)."), (1, 1e3, "look like micrometres"), (3, 1e-3, "look like metres")],
)  # fmt: skip
def test_a_scan_that_no_ct_has_is_refused_and_a_unit_in_which_it_is_possible_is_named(
    opened, code, factor, remedy
):
    rows = {f"srow_{axis}": row * factor for axis, row in zip("xyz", IPL[:3], strict=True)}
    with pytest.raises(BadInput, match=r"has voxels of .* as no CT has") as refusal:
        opened(content(xyzt_units=code, qform_code=0, **rows))
    assert remedy in str(refusal.value)


@pytest.mark.parametrize(("step", "count", "possible"), [
    (0.01, 5, True), (0.009, 5, False), (0.005, 5, False), (100, 5, True), (101, 5, False),
    (5000, 1, False), (3.9, 1024, True), (4, 1024, False), (8, 1000, False),
])  # fmt: skip
def test_voxels_from_10_um_to_100_mm_and_sides_up_to_4_m_are_possible(
    opened, step, count, possible
):
    hu = np.resize(HU, (2, 2, count))
    block = content(hu, sform_code=0, qform_code=0, pixdim=[1, 1, 1, step], xyzt_units=2)
    if possible:
        assert opened(block).spacing_mm[0] == pytest.approx(step)
    else:
        with pytest.raises(BadInput, match="as no CT has"):
            opened(block)


@pytest.mark.parametrize("unit", UNITS)
def test_the_header_is_written_back_to_the_byte_in_its_own_unit(opened, tmp_path, unit):
    block = content(**scaled(unit, descrip=b"a name"))
    scan = opened(block)
    write_like(scan, scan.read(), tmp_path / "again.nii")
    assert (tmp_path / "again.nii").read_bytes() == block
    write_derived(scan, scan.hu(scan.read()) + np.float32(0.5), tmp_path / "derived.nii")
    assert open_scan(tmp_path / "derived.nii").spacing_mm == scan.spacing_mm
    stripped = cleared(scan.head)
    code = struct.unpack_from("<B", stripped, 123)[0]
    assert code == UNITS[unit][0]
    again = opened(stripped + HU.tobytes("F"), "stripped.nii")
    assert again.spacing_mm == scan.spacing_mm
