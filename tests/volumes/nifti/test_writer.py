from __future__ import annotations

import gzip
import os
import struct
import threading
import tracemalloc
from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest

from volumes import nifti
from volumes.errors import BadInput, CannotWrite
from volumes.nifti.read_options import ReadOptions

DTYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")
SHAPES = [(17, 19, 13), (1, 7, 5), (4, 1, 1), (1, 1, 1)]
# Slices first: the stored axes point to inferior, posterior and left, as KiTS19 has them.
IPL = np.array([[0, 0, -0.7, 30], [0, -0.8, 0, 20], [-3, 0, 0, 10], [0, 0, 0, 1.0]])
ORDERS = [
    np.array(list(zip(axes, flips, strict=True)), float)
    for axes in permutations(range(3))
    for flips in product((1, -1), repeat=3)
]
NOTE = b"a private note, 24 bytes"


def extension(order="<"):
    """The four bytes that announce extensions, and one."""
    return b"\1\0\0\0" + struct.pack(f"{order}ii", 8 + len(NOTE), 6) + NOTE


def header(shape, code="i2", order="<", kind=nib.Nifti1Header, **fields):
    """A valid header; `fields` then overwrite what they name, checked by nobody."""
    made = kind(endianness=order)
    made.set_data_shape(shape)
    made.set_data_dtype(np.dtype(code))
    made.set_qform(IPL, 1)
    made.set_sform(IPL, 1)
    made["magic"] = kind.single_magic
    made["vox_offset"] = kind.sizeof_hdr + 4
    made["scl_slope"], made["scl_inter"] = 1.0, 0.0
    for name, value in fields.items():
        field = made[name]
        if np.ndim(field):
            made[name][: len(value)] = value
        else:
            made[name] = value
    return made


def packed(path, content):
    """Writes content, compressed where the name says so."""
    path.write_bytes(gzip.compress(content, 1, mtime=0) if path.suffix == ".gz" else content)
    return path


def unpacked(path):
    content = path.read_bytes()
    return gzip.decompress(content) if path.suffix == ".gz" else content


def noise_of(shape, code, order="<"):
    """Voxels of all bit patterns, NaN and infinities among them, in Fortran order."""
    dtype = np.dtype(order + code)
    count = int(np.prod(shape))
    return np.frombuffer(np.random.default_rng(0).bytes(count * dtype.itemsize), dtype)


def scan_file(path, head, voxels, between=b"\0\0\0\0"):
    return packed(path, head.binaryblock + between + voxels.tobytes("F"))


def refusal(path):
    """The message with which a file is refused: one line that begins with the path."""
    with pytest.raises(BadInput) as caught:
        nifti.open_scan(path).read()
    message = str(caught.value)
    assert caught.value.exit_code == 3
    assert message.startswith(f"{path}: ")
    assert message.endswith(".")
    assert "\n" not in message
    return message


@pytest.fixture
def hu():
    return np.random.default_rng(0).integers(-1024, 3072, (17, 19, 13)).astype(np.int16)


# Orientation


@pytest.mark.parametrize(
    "order", ORDERS, ids=lambda order: "".join(nib.orientations.ornt2axcodes(order))
)
def test_every_axis_order_of_a_scan_reads_to_the_same_voxels_and_comes_back(tmp_path, hu, order):
    image = nib.Nifti1Image(hu, IPL).as_reoriented(order)
    nib.save(image, tmp_path / "scan.nii")
    scan = nifti.open_scan(tmp_path / "scan.nii")
    np.testing.assert_array_equal(scan.read_hu(), hu)
    assert scan.shape == hu.shape
    assert scan.spacing_mm == pytest.approx((3.0, 0.8, 0.7))
    assert scan.axes == "".join(nib.aff2axcodes(image.affine))
    nifti.write_like(scan, scan.read(), tmp_path / "again.nii")
    assert unpacked(tmp_path / "again.nii") == unpacked(tmp_path / "scan.nii")


def test_the_48_axis_orders_are_all_different(hu):
    affines = {nib.Nifti1Image(hu, IPL).as_reoriented(o).affine.tobytes() for o in ORDERS}
    assert len(affines) == 48


@pytest.mark.parametrize("number", [0, 13, 29, 47])
def test_what_is_written_to_the_canonical_view_is_written_to_the_stored_array(tmp_path, hu, number):
    nib.save(nib.Nifti1Image(hu, IPL).as_reoriented(ORDERS[number]), tmp_path / "scan.nii")
    scan = nifti.open_scan(tmp_path / "scan.nii")
    stored = scan.read()
    scan.canonical(stored)[2, 3, 4] = -777
    nifti.write_like(scan, stored, tmp_path / "changed.nii")
    hu[2, 3, 4] = -777
    np.testing.assert_array_equal(nifti.open_scan(tmp_path / "changed.nii").read_hu(), hu)


def test_an_oblique_scan_is_ordered_by_its_nearest_axes(tmp_path, hu):
    tilt = np.eye(4)
    angle = np.radians(25)
    tilt[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    nib.save(
        nib.Nifti1Image(hu.transpose(2, 1, 0), tilt @ IPL[:, [2, 1, 0, 3]]), tmp_path / "a.nii"
    )
    scan = nifti.open_scan(tmp_path / "a.nii")
    np.testing.assert_array_equal(scan.read_hu(), hu)
    assert scan.spacing_mm == pytest.approx((3.0, 0.8, 0.7), rel=1e-5)


def test_every_axis_order_is_told_by_a_quaternion_alone(tmp_path, hu):
    for number, order in enumerate(ORDERS):
        image = nib.Nifti1Image(hu, IPL).as_reoriented(order)
        image.set_qform(image.affine, 1)
        image.set_sform(None, 0)
        nib.save(image, tmp_path / f"{number}.nii")
        read = nifti.open_scan(tmp_path / f"{number}.nii").read_hu()
        np.testing.assert_array_equal(read, hu)


@pytest.mark.parametrize("qfac", [1.0, 0.0, float("nan"), 7.0])
def test_a_quaternion_of_unknown_handedness_is_right_handed(tmp_path, hu, qfac):
    made = header(hu.shape, sform_code=0)
    assert made["pixdim"][0] == 1  # inferior, posterior, left are right-handed
    made["pixdim"][0] = qfac
    scan = nifti.open_scan(scan_file(tmp_path / "scan.nii", made, hu))
    assert scan.axes == "IPL"
    nifti.write_like(scan, scan.read(), tmp_path / "again.nii")
    assert unpacked(tmp_path / "again.nii") == unpacked(tmp_path / "scan.nii")


def test_where_sform_and_quaternion_differ_the_sform_counts(tmp_path, hu):
    made = header(hu.shape)
    made.set_qform(np.diag([2.0, 2, 2, 1]), 1)
    scan = nifti.open_scan(scan_file(tmp_path / "scan.nii", made, hu))
    assert scan.axes == "IPL"


# The bytes of the header and the voxels


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(("slope", "inter"), [(1.0, 0.0), (0.5, -1024.0)])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("code", DTYPES)
def test_what_was_read_is_written_back_to_the_byte(tmp_path, code, order, slope, inter, suffix):
    shape = (5, 4, 3)
    made = header(shape, code, order, scl_slope=slope, scl_inter=inter, descrip=b"ward 7",
                  intent_name=b"\xffodd", cal_max=3.5, glmin=-9)  # fmt: skip
    path = scan_file(tmp_path / f"scan{suffix}", made, noise_of(shape, code, order))
    scan = nifti.open_scan(path)
    assert (scan.slope, scan.inter) == (slope, inter)
    stored = scan.read()
    assert stored.dtype == np.dtype(order + code)
    nifti.write_like(scan, stored, tmp_path / f"again{suffix}")
    assert unpacked(tmp_path / f"again{suffix}") == unpacked(path)


@pytest.mark.parametrize("code", DTYPES)
@pytest.mark.parametrize("order", ["<", ">"])
def test_voxels_of_every_datatype_are_those_that_nibabel_reads(tmp_path, code, order):
    shape = (5, 4, 3)
    voxels = np.random.default_rng(0).integers(0, 120, shape).astype(order + code)
    made = header(shape, code, order, scl_slope=0.5, scl_inter=-1024.0)
    path = scan_file(tmp_path / "scan.nii", made, voxels)
    scan = nifti.open_scan(path)
    expected = np.asarray(nib.load(path).dataobj)
    np.testing.assert_array_equal(scan.hu(scan.read()), expected)


@pytest.mark.parametrize("code", ["i2", "f4"])
@pytest.mark.parametrize("shape", [*SHAPES, (4, 3, 2, 1), (4, 3, 2, 1, 1, 1, 1)])
def test_scans_of_any_shape_are_written_back_to_the_byte(tmp_path, shape, code):
    path = scan_file(tmp_path / "scan.nii", header(shape, code), noise_of(shape, code))
    scan = nifti.open_scan(path)
    assert scan.shape == shape[:3]
    assert scan.nbytes == scan.read().nbytes
    nifti.write_like(scan, scan.read(), tmp_path / "again.nii")
    assert unpacked(tmp_path / "again.nii") == unpacked(path)


@pytest.mark.parametrize("offset", [384, 400, 1000])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_extensions_are_kept_to_the_byte(tmp_path, suffix, offset):
    # A size of zero ends the extensions; what follows is nobody's business.
    between = (extension() + bytes(8)).ljust(offset - 348, b"\x5a")[: offset - 348]
    made = header((3, 4, 5), vox_offset=offset)
    path = scan_file(tmp_path / f"scan{suffix}", made, noise_of((3, 4, 5), "i2"), between)
    scan = nifti.open_scan(path)
    nifti.write_like(scan, scan.read(), tmp_path / f"again{suffix}")
    assert unpacked(tmp_path / f"again{suffix}") == unpacked(path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_nifti_2_is_read_and_written_back_to_the_byte(tmp_path, hu, order, suffix):
    made = header(hu.shape, order=order, kind=nib.Nifti2Header)
    path = scan_file(tmp_path / f"scan{suffix}", made, hu.astype(order + "i2"))
    scan = nifti.open_scan(path)
    np.testing.assert_array_equal(scan.read_hu(), hu)
    nifti.write_like(scan, scan.read(), tmp_path / f"again{suffix}")
    assert unpacked(tmp_path / f"again{suffix}") == unpacked(path)


@pytest.mark.parametrize("name", ["plain.nii.gz", "PLAIN.NII.GZ", "plain"])
def test_a_plain_file_is_read_whatever_its_name(tmp_path, hu, name):
    nifti.write_hu(tmp_path / "scan.nii", hu, (3.0, 0.8, 0.7))
    (tmp_path / name).write_bytes((tmp_path / "scan.nii").read_bytes())
    np.testing.assert_array_equal(nifti.open_scan(tmp_path / name).read_hu(), hu)


@pytest.mark.parametrize("name", ["packed.nii", "packed"])
def test_a_compressed_file_is_read_whatever_its_name(tmp_path, hu, name):
    nifti.write_hu(tmp_path / "scan.nii.gz", hu, (3.0, 0.8, 0.7))
    (tmp_path / name).write_bytes((tmp_path / "scan.nii.gz").read_bytes())
    np.testing.assert_array_equal(nifti.open_scan(tmp_path / name).read_hu(), hu)


def test_a_gzip_stream_of_several_members_is_read(tmp_path, hu):
    nifti.write_hu(tmp_path / "scan.nii", hu, (3.0, 0.8, 0.7))
    content = unpacked(tmp_path / "scan.nii")
    parts = [content[:200], content[200:1001], content[1001:]]
    path = tmp_path / "members.nii.gz"
    path.write_bytes(b"".join(gzip.compress(part, mtime=0) for part in parts) + bytes(512))
    np.testing.assert_array_equal(nifti.open_scan(path).read_hu(), hu)


def test_a_scan_can_be_named_by_a_string(phantom_file, phantom_hu):
    np.testing.assert_array_equal(nifti.open_scan(str(phantom_file)).read_hu(), phantom_hu)


@pytest.mark.real_ct
def test_a_real_scan_is_written_back_to_the_byte(real_ct, tmp_path):
    path = min(real_ct.glob("*/imaging.nii.gz"), key=lambda p: p.stat().st_size)
    scan = nifti.open_scan(path)
    nifti.write_like(scan, scan.read(), tmp_path / "again.nii.gz")
    assert unpacked(tmp_path / "again.nii.gz") == unpacked(path)


@pytest.mark.real_ct
def test_every_real_scan_is_read_as_slices_of_512_by_512_from_air_to_bone(real_ct):
    for path in sorted(real_ct.glob("*/imaging.nii.gz")):
        hu = nifti.open_scan(path).read_hu()
        assert hu.shape[1:] == (512, 512)
        assert hu.dtype == np.int16
        assert -1100 < hu.min() < -900
        assert 700 < hu.max() <= 3071


# HU and stored values


@pytest.fixture
def scaled(tmp_path):
    """A scan of a datatype and a scaling; its voxels do not matter."""

    def make(code, slope=1.0, inter=0.0):
        made = header((1, 1, 1), code, scl_slope=slope, scl_inter=inter)
        path = tmp_path / "scaled.nii"
        return nifti.open_scan(scan_file(path, made, np.zeros((1, 1, 1), code)))

    return make


SCALINGS = [(1.0, 0.0), (0.5, -1024.0), (1.0, -1024.0), (2.0, 0.25), (-1.0, 0.0)]


@pytest.mark.parametrize(("slope", "inter"), SCALINGS)
@pytest.mark.parametrize("code", DTYPES)
def test_stored_values_survive_the_way_to_hu_and_back(scaled, code, slope, inter):
    scan = scaled(code, slope, inter)
    if np.dtype(code).kind == "f":
        stored = np.arange(-8192, 8192, 0.25).astype(code)
    else:
        limits = np.iinfo(code)
        low, high = max(limits.min, -(2**18)), min(limits.max, 2**18)
        stored = np.arange(low, high + 1, max(1, (high - low) >> 16)).astype(code)
    back, saturated = scan.stored(scan.hu(stored))
    assert back.dtype == scan.dtype
    assert saturated == 0
    np.testing.assert_array_equal(back, stored)


@pytest.mark.parametrize(("slope", "inter"), SCALINGS)
def test_hu_are_the_slope_times_the_stored_value_plus_the_intercept(scaled, slope, inter):
    hu = scaled("i2", slope, inter).hu(np.int16([-1000, 0, 1, 3071]))
    assert hu.dtype == np.float32
    np.testing.assert_array_equal(hu, [slope * v + inter for v in (-1000, 0, 1, 3071)])


@pytest.mark.parametrize(("slope", "inter"), [(0.0, 0.0), (0.0, -1024.0), (float("nan"), 5.0)])
def test_a_slope_of_zero_or_nan_means_unscaled(scaled, slope, inter):
    np.testing.assert_array_equal(scaled("i2", slope, inter).hu(np.int16([7])), [7])


@pytest.mark.parametrize("code", ["u1", "i1", "u2", "i2", "u4", "i4"])
def test_values_beyond_the_datatype_saturate_and_are_counted(scaled, code):
    limits = np.iinfo(code)
    span = float(limits.max) - limits.min
    hu = np.float32([limits.max + span, 5, limits.min - span, limits.min, 0, limits.max + 2 * span])
    stored, saturated = scaled(code).stored(hu)
    assert saturated == 3
    expected = [limits.max, 5, limits.min, limits.min, 0, limits.max]
    np.testing.assert_array_equal(stored, expected)


@pytest.mark.parametrize("code", ["u8", "i8"])
def test_values_beyond_64_bits_saturate_without_wrapping(scaled, code):
    limits = np.iinfo(code)
    stored, saturated = scaled(code).stored(np.float32([1e30, -1e30, 5]))
    assert saturated == 2
    assert int(stored[0]) > limits.max * 0.999
    assert int(stored[1]) == limits.min
    assert int(stored[2]) == 5


def test_saturation_is_judged_after_the_scaling(scaled):
    stored, saturated = scaled("u2", 0.5, -1024.0).stored(
        np.float32([-1024, -1025, 31743.5, 31745])
    )
    np.testing.assert_array_equal(stored, [0, 0, 65535, 65535])
    assert saturated == 2


def test_values_between_two_stored_ones_go_to_the_nearest_and_halves_to_the_even_one(scaled):
    stored, saturated = scaled("i2").stored(np.float32([0.5, 1.5, 2.5, -0.5, -1.5, 2.4, 32767.4]))
    np.testing.assert_array_equal(stored, [0, 2, 2, 0, -2, 2, 32767])
    assert saturated == 0


def test_floating_point_scans_store_what_they_are_given(scaled):
    hu = np.float32([0.1, -1000.7, np.nan, np.inf, 1e30])
    stored, saturated = scaled("f4").stored(hu)
    np.testing.assert_array_equal(stored, hu)
    assert saturated == 0


@pytest.mark.parametrize(("code", "slope"), [("f4", 1.0), ("f8", 1.0), ("f4", 2.0)])
def test_voxels_that_are_no_numbers_are_read_as_air(tmp_path, code, slope):
    voxels = np.full((1, 20, 20), 5.0, code)
    voxels[0, 0, :3] = [np.nan, np.inf, -np.inf]
    path = scan_file(tmp_path / "scan.nii", header(voxels.shape, code, scl_slope=slope), voxels)
    hu = nifti.open_scan(path).read_hu()
    np.testing.assert_array_equal(hu[0, 0, :4], [-1000, -1000, -1000, 5 * slope])


def test_voxels_that_float32_cannot_hold_are_read_as_air(tmp_path):
    voxels = np.full((1, 20, 20), 5.0)
    voxels[0, 0, :2] = [1e300, -1e300]
    path = scan_file(tmp_path / "scan.nii", header(voxels.shape, "f8"), voxels)
    read = nifti.open_scan(path).read_hu()
    np.testing.assert_array_equal(read[0, 0, :3], [-1000, -1000, 5])


@pytest.mark.parametrize("odd", [40000, -1e6, 0.5, -0.001])
@pytest.mark.parametrize("code", ["f4", "f8"])
def test_voxels_that_int16_cannot_hold_are_read_as_they_are(tmp_path, odd, code):
    voxels = np.array([odd, 32767, -32768, 5], code).reshape(1, 2, 2)
    path = scan_file(tmp_path / "scan.nii", header(voxels.shape, code), voxels)
    hu = nifti.open_scan(path, ReadOptions(hu=True)).read_hu()
    assert hu.dtype == np.float32
    np.testing.assert_array_equal(hu, voxels.astype(np.float32))


@pytest.mark.parametrize("code", ["u1", "i2", "u2", "i4", "f4", "f8"])
@pytest.mark.parametrize(("slope", "inter"), [(1.0, 0.0), (2.0, -1024.0), (0.5, 0.0)])
def test_whole_hu_are_read_as_int16_from_every_datatype(tmp_path, code, slope, inter):
    stored = np.arange(0, 120, 2).reshape(3, 4, 5).astype(code)
    path = scan_file(
        tmp_path / "scan.nii", header(stored.shape, code, scl_slope=slope, scl_inter=inter), stored
    )
    scan = nifti.open_scan(path, ReadOptions(hu=True))
    hu = scan.read_hu()
    assert hu.dtype == np.int16
    np.testing.assert_array_equal(hu, scan.canonical(stored * slope + inter))


# Damaged files


@pytest.fixture
def compressed(tmp_path, hu):
    nifti.write_hu(tmp_path / "good.nii.gz", hu, (3.0, 0.8, 0.7))
    return (tmp_path / "good.nii.gz").read_bytes()


def test_a_single_flipped_bit_in_a_gzip_stream_never_loads_other_voxels(tmp_path, hu, compressed):
    path, refused = tmp_path / "bad.nii.gz", 0
    for place in np.random.default_rng(0).integers(len(compressed) * 8, size=400):
        damaged = bytearray(compressed)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            read = nifti.open_scan(path).read_hu()
        except BadInput:
            refused += 1
        else:
            np.testing.assert_array_equal(read, hu, f"bit {place}")
    assert refused > 380  # bits of no meaning lie in the ten bytes of the stream's header alone


def test_a_flipped_bit_in_the_checksum_or_the_length_is_refused(tmp_path, compressed):
    for place in range(len(compressed) * 8 - 64, len(compressed) * 8):
        damaged = bytearray(compressed)
        damaged[place // 8] ^= 1 << place % 8
        (tmp_path / "bad.nii.gz").write_bytes(damaged)
        assert "damaged" in refusal(tmp_path / "bad.nii.gz")


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_gzip_stream_without_its_whole_trailer_is_refused(tmp_path, compressed, cut):
    (tmp_path / "bad.nii.gz").write_bytes(compressed[:-cut])
    assert "end early" in refusal(tmp_path / "bad.nii.gz")


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_gzip_stream_is_refused(tmp_path, compressed, share):
    (tmp_path / "bad.nii.gz").write_bytes(compressed[: int(share * len(compressed))])
    assert "ownload" in refusal(tmp_path / "bad.nii.gz")


def test_a_whole_gzip_stream_with_too_few_voxels_is_refused(tmp_path):
    content = header((3, 4, 5)).binaryblock + bytes(4) + bytes(2 * 59)
    assert "ends after 470 of 472 bytes" in refusal(packed(tmp_path / "bad.nii.gz", content))


@pytest.mark.parametrize("missing", [1, 60, 120])
def test_a_truncated_plain_file_is_refused_before_its_voxels_are_read(tmp_path, missing):
    content = header((3, 4, 5)).binaryblock + bytes(4) + bytes(120 - missing)
    with pytest.raises(BadInput, match=f"ends after {472 - missing} bytes.*declares 472"):
        nifti.open_scan(packed(tmp_path / "bad.nii", content))


def test_a_file_that_shrinks_after_it_was_opened_is_refused(tmp_path, hu):
    nifti.write_hu(tmp_path / "scan.nii", hu, (3.0, 0.8, 0.7))
    scan = nifti.open_scan(tmp_path / "scan.nii")
    os.truncate(tmp_path / "scan.nii", 1000)
    with pytest.raises(BadInput, match="was changed while it was read"):
        scan.read()


def test_a_file_that_goes_away_after_it_was_opened_is_refused(tmp_path, phantom_file):
    scan = nifti.open_scan(phantom_file)
    phantom_file.unlink()
    with pytest.raises(BadInput, match="cannot be read"):
        scan.read()


# Headers that cannot be true

NAN, INF = float("nan"), float("inf")
FLAT = {"srow_x": [1, 0, 0, 0], "srow_y": [1, 0, 0, 0], "srow_z": [0, 0, 1, 0]}
NEARLY_FLAT = {"srow_x": [1e5, 1e5, 0, 0], "srow_y": [0, 1e-12, 0, 0], "srow_z": [0, 0, 1, 0]}
ZERO = {"srow_x": [0] * 4, "srow_y": [0] * 4, "srow_z": [0] * 4}
IMPOSSIBLE = [
    ({"dim": [0]}, "dimensions"),
    ({"dim": [8]}, "dimensions"),
    ({"dim": [-1]}, "dimensions"),
    ({"dim": [3, 0]}, "dimensions"),
    ({"dim": [3, 4, -5]}, "dimensions"),
    ({"dim": [3, 4, 5, -32768]}, "dimensions"),
    ({"dim": [3, 32767, 32767, 32767]}, "declares"),
    ({"dim": [7, 32767, 32767, 32767, 1, 1, 1, 1]}, "declares"),
    ({"dim": [7] + [32767] * 7}, "3D volume"),
    ({"dim": [1, 60]}, "3D volume"),
    ({"dim": [1, 4]}, "3D volume"),
    ({"dim": [4, 3, 4, 5, 2]}, "holds 2 volumes.*--volume"),
    ({"dim": [5, 3, 4, 5, 1, 3]}, "3D volume"),
    ({"datatype": 0}, "unknown"),
    ({"datatype": 1}, "one bit"),
    ({"datatype": 32}, "complex"),
    ({"datatype": 1792}, "complex"),
    ({"datatype": 2048}, "complex"),
    ({"datatype": 128}, "colour"),
    ({"datatype": 2304}, "colour"),
    ({"datatype": 1536}, "128-bit"),
    ({"datatype": 999}, "999"),
    ({"vox_offset": 0}, "byte 0"),
    ({"vox_offset": 348}, "byte 348"),
    ({"vox_offset": 353.5}, "byte 353.5"),
    ({"vox_offset": -352}, "byte -352"),
    ({"vox_offset": NAN}, "byte nan"),
    ({"vox_offset": INF}, "byte inf"),
    ({"vox_offset": 1e9}, "byte 1e\\+09"),
    ({"scl_slope": INF}, "scales its voxels"),
    ({"scl_slope": -INF}, "scales its voxels"),
    ({"scl_inter": NAN}, "scales its voxels"),
    ({"scl_inter": INF}, "scales its voxels"),
    (ZERO, "inverted"),
    (FLAT, "inverted"),
    (NEARLY_FLAT, "inverted"),
    ({"srow_y": [0, NAN, 0, 0]}, "inverted"),
    ({"srow_y": [0, 0, 0, INF]}, "inverted"),
    ({"sform_code": 0, "quatern_b": 5.0}, "orientation"),
    ({"sform_code": 0, "pixdim": [1, 0, 1, 1]}, "voxels of 0 x 1 x 1 mm"),
    ({"sform_code": 0, "qform_code": 0, "pixdim": [1, NAN, 1, 1]}, "voxels of nan"),
    ({"magic": b"ni1"}, "pair"),
    ({"magic": b"abc"}, "not a NIfTI file"),
    ({"magic": b""}, "not a NIfTI file"),
    ({"sizeof_hdr": 0}, "not a NIfTI file"),
]  # fmt: skip


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(("fields", "cause"), IMPOSSIBLE, ids=lambda v: str(v)[:50])
def test_a_header_that_cannot_be_true_is_refused(tmp_path, fields, cause, suffix):
    made = header((3, 4, 5), **fields)
    path = scan_file(tmp_path / f"bad{suffix}", made, np.zeros((3, 4, 5), np.int16))
    with pytest.raises(BadInput, match=cause):
        nifti.open_scan(path)
    refusal(path)


@pytest.mark.parametrize("fields", [{"dim": [-1]}, {"dim": [3, 2**40, 2**40, 2**40]},
                                    {"dim": [3, -(2**62), 4, 5]}, {"vox_offset": 2**62},
                                    {"vox_offset": -5}, {"datatype": 128}, ZERO, FLAT])  # fmt: skip
def test_a_header_of_nifti_2_that_cannot_be_true_is_refused(tmp_path, fields):
    made = header((3, 4, 5), kind=nib.Nifti2Header, **fields)
    refusal(scan_file(tmp_path / "bad.nii", made, np.zeros((3, 4, 5), np.int16)))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_header_that_promises_too_much_is_refused_before_anything_is_allocated(tmp_path, suffix):
    made = header((32767, 32767, 32767), "f8")
    path = scan_file(tmp_path / f"bad{suffix}", made, np.zeros(1000))
    tracemalloc.start()
    try:
        with pytest.raises(BadInput, match="declares"):
            nifti.open_scan(path)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_random_headers_are_either_read_or_refused(tmp_path):
    rng, path = np.random.default_rng(0), tmp_path / "fuzz.nii"
    good = header((3, 4, 5)).binaryblock + bytes(4 + 120)
    outcomes = {True: 0, False: 0}
    for turn in range(400):
        mutant = bytearray(good)
        for _ in range(1 + turn % 6):
            if turn % 2:
                mutant[rng.integers(348)] = rng.integers(256)
            else:  # a whole number or a float that is out of place
                odd = (NAN, INF, 0.0, -1.0, 1e30, 1e-30)[rng.integers(6)]
                struct.pack_into("<f", mutant, 40 + 4 * rng.integers(77), odd)
        path.write_bytes(mutant)
        try:
            scan = nifti.open_scan(path)
            hu = scan.read_hu()
        except BadInput:
            outcomes[False] += 1
        else:
            outcomes[True] += 1
            assert hu.shape == scan.shape
            assert np.isfinite(scan.affine).all()
            assert min(scan.spacing_mm) > 0
            assert len(scan.axes) == 3
    assert min(outcomes.values()) > 50


# Files that are no scans


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty.*[Dd]ownload"),
        (b"\0" * 40, "not a header.*[Dd]ownload"),
        (b"<!DOCTYPE html>\n<html><body>404</body></html>" * 20, "web page.*[Dd]ownload"),
        (b"\n  <html>", "web page.*[Dd]ownload"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 5\n", "git lfs pull"),
        (b"/annex/objects/MD5E-s9--0.nii.gz\n", "not fetched.*git annex get"),
        (b"../.git/annex/objects/Xq/MD5E-s9.nii.gz", "not fetched.*git annex get"),
        (b"\0" * 128 + b"DICM" + b"\0" * 400, "DICOM.*dcm2niix"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 400, "PNG"),
        (b"NRRD0004\n" + b"#" * 400, "NRRD"),
        (b"ObjectType = Image\n" + b"#" * 400, "MetaImage"),
        (b"PK\x03\x04" + b"\0" * 400, "zip"),
        (b"\xfd7zXZ\0" + b"\0" * 400, "xz"),
        (b"BZh9" + b"\0" * 400, "bzip2"),
        (b"\x28\xb5\x2f\xfd" + b"\0" * 400, "zstd"),
        (b"\0" * 1000, "not a header"),
    ],
)
@pytest.mark.parametrize("name", ["imaging.nii", "imaging.nii.gz"])
def test_a_file_that_is_no_scan_is_refused_and_named_for_what_it_is(tmp_path, name, content, told):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=told):
        nifti.open_scan(tmp_path / name)
    refusal(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"<html>", b"\0" * 40])
def test_a_gzip_stream_of_no_scan_is_refused(tmp_path, content):
    refusal(packed(tmp_path / "scan.nii.gz", content))


def test_a_folder_is_refused(tmp_path):
    assert "is a folder. Name a .nii" in refusal(tmp_path)


def test_a_missing_file_is_refused_with_what_to_check(tmp_path):
    assert "No such file or directory. Check its name" in refusal(tmp_path / "none.nii.gz")


def test_a_link_that_leads_nowhere_is_refused(tmp_path):
    (tmp_path / "scan.nii").symlink_to(tmp_path / "gone")
    assert "cannot be read" in refusal(tmp_path / "scan.nii")


def test_a_link_to_itself_is_refused(tmp_path):
    (tmp_path / "scan.nii").symlink_to(tmp_path / "scan.nii")
    assert "cannot be read" in refusal(tmp_path / "scan.nii")


def test_a_file_that_may_not_be_read_is_refused_with_what_to_check(phantom_file, monkeypatch):
    def denied(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("volumes.nifti.checked_stream.os.open", denied)
    assert "Permission denied. Check its name and your permissions" in refusal(phantom_file)


def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path):
    os.mkfifo(tmp_path / "scan.nii")
    told = []
    asking = threading.Thread(
        target=lambda: told.append(refusal(tmp_path / "scan.nii")), daemon=True
    )
    asking.start()
    asking.join(10)
    assert told
    assert "not a regular file" in told[0]


def test_a_device_is_refused():
    assert "not a regular file" in refusal("/dev/zero")


def test_the_refusal_of_a_name_with_a_newline_is_one_line(tmp_path):
    (tmp_path / "a\nb.nii").write_bytes(b"")
    with pytest.raises(BadInput) as caught:
        nifti.open_scan(tmp_path / "a\nb.nii")
    assert "\n" not in str(caught.value)


# Writing


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".NII.GZ"])
@pytest.mark.parametrize("shape", SHAPES)
def test_new_scans_are_read_back_with_the_same_voxels_spacing_and_axes(tmp_path, shape, suffix):
    hu = np.random.default_rng(0).integers(-32768, 32768, shape).astype(np.int16)
    nifti.write_hu(tmp_path / f"scan{suffix}", hu, (3.0, 0.8, 0.7))
    scan = nifti.open_scan(tmp_path / f"scan{suffix}", ReadOptions(hu=True))
    assert scan.axes == "IPL"
    assert scan.spacing_mm == pytest.approx((3.0, 0.8, 0.7))
    read = scan.read_hu()
    np.testing.assert_array_equal(read, hu)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_new_scans_are_what_nibabel_reads(tmp_path, hu, suffix):
    nifti.write_hu(tmp_path / f"scan{suffix}", hu, (3.0, 0.8, 0.7))
    image = nib.load(tmp_path / f"scan{suffix}")
    np.testing.assert_array_equal(np.asarray(image.dataobj), hu)
    assert nib.aff2axcodes(image.affine) == ("I", "P", "L")
    assert image.header.get_zooms() == pytest.approx((3.0, 0.8, 0.7))
    assert image.header.get_xyzt_units()[0] == "mm"
    assert image.header.get_data_dtype() == np.int16


def test_arrays_of_any_memory_order_are_written_alike(tmp_path, hu):
    nifti.write_hu(tmp_path / "a.nii", hu, (3.0, 0.8, 0.7))
    nifti.write_hu(tmp_path / "b.nii", np.asfortranarray(hu), (3.0, 0.8, 0.7))
    nifti.write_hu(tmp_path / "c.nii", hu[::-1, ::-1][::-1, ::-1], (3.0, 0.8, 0.7))
    assert (
        unpacked(tmp_path / "a.nii") == unpacked(tmp_path / "b.nii") == unpacked(tmp_path / "c.nii")
    )


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_the_same_voxels_give_the_same_bytes_under_any_name_at_any_time(
    tmp_path, hu, monkeypatch, suffix
):
    nifti.write_hu(tmp_path / f"one{suffix}", hu, (3.0, 0.8, 0.7))
    monkeypatch.setattr("time.time", lambda: 2e9)
    nifti.write_hu(tmp_path / f"two{suffix}", hu, (3.0, 0.8, 0.7))
    assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()


@pytest.mark.parametrize("name", ["out.nii", "out.nii.gz"])
def test_the_name_of_the_output_decides_whether_it_is_compressed(tmp_path, phantom_file, name):
    scan = nifti.open_scan(phantom_file)
    nifti.write_like(scan, scan.read(), tmp_path / name)
    is_gzip = (tmp_path / name).read_bytes()[:2] == b"\x1f\x8b"
    assert is_gzip == name.endswith(".gz")


def test_an_existing_output_is_refused_and_kept(tmp_path, phantom_file, phantom_hu):
    scan = nifti.open_scan(phantom_file)
    out = tmp_path / "out.nii"
    out.write_bytes(b"old")
    for write in (
        lambda: nifti.write_like(scan, scan.read(), out),
        lambda: nifti.write_derived(scan, scan.hu(scan.read()), out),
        lambda: nifti.write_hu(out, phantom_hu, (1.0, 1.0, 1.0)),
    ):
        with pytest.raises(CannotWrite, match="exists already"):
            write()
    assert out.read_bytes() == b"old"


def test_an_existing_output_is_replaced_where_that_is_asked_for(tmp_path, phantom_file):
    scan = nifti.open_scan(phantom_file)
    out = tmp_path / "out.nii"
    out.write_bytes(b"old")
    nifti.write_like(scan, scan.read(), out, overwrite=True)
    np.testing.assert_array_equal(nifti.open_scan(out).read(), scan.read())


@pytest.mark.parametrize("link", [None, os.symlink, os.link])
def test_a_scan_is_never_replaced_by_what_is_made_of_it(tmp_path, phantom_file, link):
    scan, before, out = nifti.open_scan(phantom_file), phantom_file.read_bytes(), phantom_file
    if link:
        out = tmp_path / "link.nii.gz"
        link(phantom_file, out)
    for write in (
        lambda: nifti.write_like(scan, scan.read(), out, overwrite=True),
        lambda: nifti.write_derived(scan, scan.hu(scan.read()), out, overwrite=True),
    ):
        with pytest.raises(CannotWrite, match="is the scan itself"):
            write()
    assert phantom_file.read_bytes() == before


# Derived scans


def derived(tmp_path, values, code="u2", order="<", kind=nib.Nifti1Header):
    """A scaled scan with an extension, and what is derived from it."""
    offset = kind.sizeof_hdr + len(extension())
    made = header(values.shape, code, order, kind, scl_slope=0.5, scl_inter=-1024.0,
                  vox_offset=offset, descrip=b"ward 7")  # fmt: skip
    voxels = np.zeros(values.shape, order + code)
    source = scan_file(tmp_path / "source.nii", made, voxels, extension(order))
    nifti.write_derived(nifti.open_scan(source), values, tmp_path / "derived.nii")
    return source, tmp_path / "derived.nii"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([-32767.0, 0.0, 32767.0], np.int16),
        ([-140.0, 3.0, 0.0], np.int16),
        ([0.5, 3.0, 0.0], np.float32),
        ([32768.0, 0.0, 1.0], np.float32),
        ([np.nan, 0.0, 1.0], np.float32),
        ([np.inf, 0.0, 1.0], np.float32),
    ],
)
def test_whole_numbers_are_derived_as_int16_and_others_as_float32(tmp_path, values, expected):
    values = np.float32(values).reshape(1, 1, 3)
    _, path = derived(tmp_path, values)
    image = nib.load(path)
    assert image.header.get_data_dtype() == expected
    np.testing.assert_array_equal(np.asarray(image.dataobj), values)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [nib.Nifti1Header, nib.Nifti2Header])
@pytest.mark.parametrize("code", ["u1", "i2", "f8"])
@pytest.mark.parametrize("step", [1.0, 0.25])
def test_derived_scans_hold_their_values_whatever_the_source(tmp_path, order, kind, code, step):
    values = (np.arange(-30, 30, dtype=np.float32) * step).reshape(3, 4, 5)
    _, path = derived(tmp_path, values, code, order, kind)
    scan = nifti.open_scan(path)
    np.testing.assert_array_equal(scan.hu(scan.read()), values)
    np.testing.assert_array_equal(np.asarray(nib.load(path).dataobj), values)


@pytest.mark.parametrize("kind", [nib.Nifti1Header, nib.Nifti2Header])
def test_derived_scans_change_datatype_and_scaling_and_nothing_else(tmp_path, kind):
    source, path = derived(tmp_path, np.zeros((3, 4, 5), np.float32), kind=kind)
    size, offset = kind.sizeof_hdr, kind.sizeof_hdr + len(extension())
    before, after = (kind(unpacked(p)[:size], check=False) for p in (source, path))
    changed = {name for name in before if before[name].tobytes() != after[name].tobytes()}
    assert changed == {"datatype", "scl_slope", "scl_inter"}
    assert unpacked(path)[size:offset] == extension()


@pytest.mark.parametrize(("value", "bits"), [(0.5, 32), (3.0, 16)])
def test_derived_scans_tell_the_bits_of_their_datatype(tmp_path, value, bits):
    _, path = derived(tmp_path, np.full((1, 1, 1), value, np.float32))
    made = nib.Nifti1Header(unpacked(path)[:348], check=False)
    assert int(made["bitpix"]) == bits
