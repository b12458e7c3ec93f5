import gzip
import hashlib
import os

import nibabel as nib
import numpy as np
import pytest

from tests.gates.catalogue import HU, content, head
from volumes.errors import BadInput
from volumes.nifti import open_scan, write_derived, write_like
from volumes.nifti.read_options import ReadOptions

ASKED = {
    "read": lambda scan: scan.read(),
    "verified": lambda scan: scan.verified(),
    "loaded": lambda scan: scan.loaded(),
    "read_hu": lambda scan: scan.read_hu(),
    "sha256": lambda scan: scan.sha256(),
}


@pytest.fixture
def pair(tmp_path):
    (tmp_path / "scan.hdr").write_bytes(head(HU.shape, magic=b"ni1", vox_offset=0)[:348])
    (tmp_path / "scan.img").write_bytes(HU.tobytes("F"))
    return tmp_path / "scan.hdr"


# A file that changes


def touch(path):
    os.utime(path, ns=(0, 0))


def replace(path):
    aside = path.with_name("aside")
    aside.write_bytes(path.read_bytes())
    status = path.stat()
    os.utime(aside, ns=(status.st_atime_ns, status.st_mtime_ns))
    aside.rename(path)


def grow(path):
    with open(path, "ab") as file:
        file.write(b"more")


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
@pytest.mark.parametrize("change", [touch, replace, grow], ids=["time", "another file", "size"])
def test_a_file_that_is_changed_after_it_was_opened_is_refused(tmp_path, ask, change):
    (tmp_path / "scan.nii").write_bytes(content())
    scan = open_scan(tmp_path / "scan.nii")
    change(tmp_path / "scan.nii")
    with pytest.raises(BadInput, match=r"was changed while it was read\. Try again"):
        ask(scan)


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
def test_a_file_that_is_removed_after_it_was_opened_is_refused(tmp_path, ask):
    (tmp_path / "scan.nii").write_bytes(content())
    scan = open_scan(tmp_path / "scan.nii")
    (tmp_path / "scan.nii").unlink()
    with pytest.raises(BadInput, match="cannot be read: No such file"):
        ask(scan)


def test_a_file_that_is_changed_during_the_reading_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(gzip.compress(content(), mtime=0))
    scan = open_scan(path)
    from volumes.nifti.checked_stream import Stream

    whole = Stream.rest

    def rest(stream, trust):
        touch(path)
        return whole(stream, trust)

    monkeypatch.setattr(Stream, "rest", rest)
    with pytest.raises(BadInput, match="was changed while it was read"):
        scan.read()


def test_a_pair_is_refused_where_either_half_is_changed(pair):
    scan = open_scan(pair)
    touch(pair)
    with pytest.raises(BadInput, match="was changed"):
        scan.read()


@pytest.mark.parametrize("ask", ["read", "read_hu", "sha256"])
def test_a_file_that_is_changed_after_it_was_loaded_is_refused(tmp_path, ask):
    (tmp_path / "scan.nii").write_bytes(content())
    scan = open_scan(tmp_path / "scan.nii").loaded()
    touch(tmp_path / "scan.nii")
    with pytest.raises(BadInput, match="was changed while it was read"):
        ASKED[ask](scan)


# A loaded scan


ONCE = {
    "scan.nii": content(),
    "scan.nii.gz": gzip.compress(content(), mtime=0),
    "longer.nii": content() + b"more",
    "followed.nii.gz": gzip.compress(content(), mtime=0) + b"junk",
    "padded.nii.gz": gzip.compress(content(), mtime=0) + bytes(512),
    "unchecked.nii.gz": gzip.compress(content(), mtime=0)[:-8]
    + bytes(4)
    + gzip.compress(content(), mtime=0)[-4:],
    "four.nii.gz": gzip.compress(content(np.stack([HU, HU[::-1]], axis=-1)), mtime=0),
}


@pytest.mark.parametrize("name", ONCE)
def test_a_loaded_scan_has_what_several_readings_would_give(tmp_path, name, monkeypatch):
    (tmp_path / name).write_bytes(ONCE[name])
    trust = ReadOptions(checksum=True, volume=0 if name == "four.nii.gz" else None)
    scan = open_scan(tmp_path / name, trust)
    expected = (scan.verified().warnings, scan.sha256(), scan.source())
    voxels, words = scan.read(), scan.read_voxels().odd
    loaded = scan.loaded()
    monkeypatch.setattr("volumes.nifti.scan.open_stream", None)  # the file is not read again
    monkeypatch.setattr("volumes.nifti.scan.digest", None)
    assert (loaded.warnings, loaded.sha256(), loaded.source()) == expected
    np.testing.assert_array_equal(loaded.read(), voxels)
    assert loaded.read().flags.f_contiguous == voxels.flags.f_contiguous
    assert loaded.read_voxels().odd == words
    with pytest.raises(ValueError, match="read-only"):
        loaded.read()[0, 0, 0] = 0


def test_the_sha256_of_a_loaded_pair_is_that_of_both_halves(pair):
    both = pair.read_bytes() + pair.with_suffix(".img").read_bytes()
    assert open_scan(pair).loaded().sha256() == hashlib.sha256(both).hexdigest()


# Pairs


@pytest.mark.parametrize("named", ["scan.hdr", "scan.img"])
def test_a_pair_is_read_by_either_name_and_written_as_one_file(pair, tmp_path, named):
    scan = open_scan(tmp_path / named)
    assert scan.path == tmp_path / named
    write_like(scan, scan.read(), tmp_path / "out.nii.gz")
    block = gzip.decompress((tmp_path / "out.nii.gz").read_bytes())
    assert block == head(HU.shape) + HU.tobytes("F")
    np.testing.assert_array_equal(open_scan(tmp_path / "out.nii.gz").read_hu(), HU)


def test_the_sha256_of_a_pair_is_that_of_both_halves(pair):
    both = pair.read_bytes() + pair.with_suffix(".img").read_bytes()
    assert open_scan(pair).sha256() == hashlib.sha256(both).hexdigest()


def test_the_sha256_of_a_file_is_its_own(phantom_file):
    known = hashlib.sha256(phantom_file.read_bytes()).hexdigest()
    assert open_scan(phantom_file).sha256() == known


def test_a_pair_in_capitals_is_found(pair, tmp_path):
    pair.rename(tmp_path / "SCAN.HDR")
    (tmp_path / "scan.img").rename(tmp_path / "SCAN.IMG")
    np.testing.assert_array_equal(open_scan(tmp_path / "SCAN.HDR").read_hu(), HU)


# One volume of several


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
@pytest.mark.parametrize("k", [0, 1, 2])
def test_one_of_several_volumes_is_read_and_written_as_a_file_of_one(tmp_path, name, k):
    four = np.stack([HU, HU[::-1], HU[:, ::-1]], axis=-1)
    block = content(four)
    (tmp_path / name).write_bytes(gzip.compress(block, mtime=0) if name.endswith("gz") else block)
    scan = open_scan(tmp_path / name, ReadOptions(volume=k)).verified()
    np.testing.assert_array_equal(scan.read_hu(), four[..., k])
    write_like(scan, scan.read(), tmp_path / "out.nii")
    assert (tmp_path / "out.nii").read_bytes() == content(four[..., k : k + 1])
    write_derived(scan, scan.hu(scan.read()), tmp_path / "derived.nii")
    np.testing.assert_array_equal(open_scan(tmp_path / "derived.nii").read_hu(), four[..., k])
    assert scan.source() == {"source_sha256": scan.sha256(), "source_volume": k}


# Read options


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
def test_a_slice_of_two_dimensions_is_read_and_written_to_the_byte(tmp_path, name):
    # As nibabel and ITK save an axial slice: (X, Y), from right to left and front to back.
    block = nib.Nifti1Image(np.ascontiguousarray(HU[0].T), np.diag([-0.7, -0.8, 5, 1])).to_bytes()
    path = tmp_path / name
    path.write_bytes(gzip.compress(block, mtime=0) if name.endswith("gz") else block)
    scan = open_scan(path).verified()
    assert (scan.shape, scan.warnings) == ((1, 6, 7), ())
    assert scan.spacing_mm == pytest.approx((5.0, 0.8, 0.7))
    np.testing.assert_array_equal(scan.read_hu(), HU[:1])
    write_like(scan, scan.read(), tmp_path / "again.nii")
    assert (tmp_path / "again.nii").read_bytes() == block
    write_derived(scan, scan.hu(scan.read()) + 0.5, tmp_path / "derived.nii")
    assert nib.load(tmp_path / "derived.nii").shape == (7, 6)
    np.testing.assert_array_equal(open_scan(tmp_path / "derived.nii").read_hu(), HU[:1] + 0.5)


def test_more_voxels_than_are_allowed_are_refused_before_they_are_read(tmp_path):
    (tmp_path / "scan.nii").write_bytes(content())
    with pytest.raises(BadInput, match=r"holds 0.0 GiB of voxels, more than 1e-07.*--max-gib"):
        open_scan(tmp_path / "scan.nii", ReadOptions(gib=1e-7))


@pytest.mark.parametrize(("gib", "code"), [("inf", 0), ("nan", 2), ("0", 3)])
def test_a_limit_that_is_not_a_size_is_handled(engine, phantom_file, gib, code):
    assert engine("info", phantom_file, "--max-gib", gib)[0] == code


def test_read_options_that_change_voxels_have_a_mark_of_their_own():
    kinds = [
        ReadOptions(),
        ReadOptions(hu=True),
        ReadOptions(checksum=True),
        ReadOptions(volume=0),
        ReadOptions(volume=1),
    ]
    assert len({trust.mark for trust in kinds}) == len(kinds)
    assert ReadOptions().mark == ReadOptions(gib=9).mark == ""


def test_a_verified_scan_has_warnings_about_its_voxels(tmp_path):
    hu = HU.astype("f4")
    hu[0, 0, 0] = np.nan
    (tmp_path / "scan.nii").write_bytes(content(hu, sform_code=300) + b"more")
    scan = open_scan(tmp_path / "scan.nii")
    assert len(scan.warnings) == 1
    assert len(scan.verified().warnings) == 3
