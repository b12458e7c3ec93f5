import struct

import nibabel as nib
import numpy as np
import pytest

from tests.gates.catalogue import HU, content, head
from volumes.errors import BadInput
from volumes.nifti.checked_stream import open_stream
from volumes.nifti.header import new_head, read_header

NOTE = b"\1\0\0\0" + struct.pack("<ii", 32, 6) + b"a private note, 24 bytes"


@pytest.fixture
def read(tmp_path):
    def judge(block, *, pair=False):
        (tmp_path / "scan.nii").write_bytes(block)
        with open_stream(tmp_path / "scan.nii") as stream:
            return read_header(stream, pair=pair)

    return judge


def test_bits_that_do_not_fit_the_datatype_give_a_warning_and_the_datatype_is_used(read):
    found = read(content(bitpix=8))
    assert found.dtype == np.int16
    assert found.warnings == ("declares 8 bits per voxel and int16: int16 is used",)


@pytest.mark.parametrize("kind", [nib.Nifti1Header, nib.Nifti2Header])
@pytest.mark.parametrize("order", ["<", ">"])
def test_the_head_of_a_pair_becomes_that_of_a_single_file(read, kind, order):
    made = head(HU.shape, order=order, kind=kind, magic=kind.pair_magic, vox_offset=0, descrip=b"x")
    size = kind.sizeof_hdr
    for block in (made[:size], made[:size] + bytes(4), made[:size] + NOTE):
        if order == ">" and len(block) > size + 4:
            continue  # the note is little-endian
        found = read(block, pair=True)
        single = kind(found.head[:size], check=False)
        assert found.offset == 0
        assert bytes(single["magic"].tobytes()).rstrip(b"\0") == kind.single_magic
        assert int(single["vox_offset"]) == len(found.head)
        assert len(found.head) % 16 == 0
        assert found.head[size:].startswith(block[size:])
        assert bytes(single["descrip"].tobytes()).startswith(b"x")


@pytest.mark.parametrize("claimed", [2**31 - 16, 40, 7, -16])
def test_an_extension_that_reaches_beyond_the_voxels_is_refused(read, claimed):
    between = b"\1\0\0\0" + struct.pack("<ii", claimed, 6) + bytes(24)
    with pytest.raises(BadInput, match="has an extension of"):
        read(content(between=between))


@pytest.mark.parametrize("between", [b"\1\0\0\0", NOTE, NOTE + bytes(16), NOTE + NOTE[4:]])
def test_extensions_that_fit_are_kept_and_none_need_be_there(read, between):
    assert read(content(between=between)).head[348:] == between


def test_one_of_several_volumes_has_a_head_of_one(read, tmp_path):
    four = np.stack([HU, HU + 1, HU + 2], axis=-1)
    found = read(content(four, between=NOTE)).volume("scan.nii", 2)
    assert found.offset == 348 + len(NOTE) + 2 * HU.nbytes
    assert found.head[348:] == NOTE
    assert found.shape == (*HU.shape, 1)
    assert nib.Nifti1Header(found.head[:348]).get_data_shape() == (*HU.shape, 1)


def test_several_volumes_are_refused_until_one_is_chosen(read):
    found = read(content(np.stack([HU, HU], axis=-1)))
    with pytest.raises(BadInput, match=r"holds 2 volumes.*--volume 0 to --volume 1"):
        found.volume("scan.nii", None)
    with pytest.raises(BadInput, match="has no volume 2"):
        found.volume("scan.nii", 2)


def test_the_one_volume_of_a_file_may_be_chosen_and_no_other(read):
    found = read(content())
    assert found.volume("scan.nii", 0) is found
    with pytest.raises(BadInput, match="has no volume 1"):
        found.volume("scan.nii", 1)


def test_a_slice_of_two_dimensions_is_a_volume_of_one_slice_with_its_own_head(read):
    whole = read(content(HU[0], between=NOTE))
    found = whole.volume("scan.nii", None)
    assert found.shape == (*HU[0].shape, 1)
    assert found.head == whole.head
    assert nib.Nifti1Header(found.head[:348]).get_data_shape() == HU[0].shape
    assert found.volume("scan.nii", 0).shape == found.shape
    with pytest.raises(BadInput, match="has no volume 1"):
        whole.volume("scan.nii", 1)


def test_lines_and_vectors_are_refused_by_their_names(read):
    with pytest.raises(BadInput, match="holds a line of 210 values, not one 3D volume"):
        read(content(HU.ravel())).volume("scan.nii", None)
    vectors = np.stack([HU, HU, HU], axis=-1)[:, :, :, None]
    with pytest.raises(BadInput, match=r"holds vectors \(5 x 6 x 7 x 1 x 3\).*one component"):
        read(content(vectors)).volume("scan.nii", 0)


def test_bytes_without_a_slope_give_a_warning(read):
    (words,) = read(content(np.clip(HU, -128, 127), code="i1")).warnings
    assert words == "is int8 without a slope: HU beyond -128 to 127 are lost"
    assert read(content(np.clip(HU / 16, -128, 127), code="i1", scl_slope=16.0)).warnings == ()


def test_a_new_head_is_one_that_nibabel_reads():
    made = nib.Nifti1Header(new_head((3, 4, 5), (2.0, 3.0, 4.0))[:348])
    assert made.get_data_shape() == (3, 4, 5)
    assert made.get_data_dtype() == np.int16
    expected = [[0, 0, -4, 0], [0, -3, 0, 0], [-2, 0, 0, 0], [0, 0, 0, 1]]
    np.testing.assert_array_equal(made.get_best_affine(), expected)
