from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest

from volumes import nifti
from volumes.dataset import Case, Split, find_cases
from volumes.dataset.grey_values import AS_FOUND, GreyWanted
from volumes.dataset.pairs import open_pair, open_pairs
from volumes.dataset.store import _LAYOUT, Store
from volumes.errors import BadInput
from volumes.window import Window

ROOT = Path(__file__).parents[3]
KEYS = ("train_ns", "train_gt", "test_ns", "test_gt")
ENDINGS = ("h5", "hdf5", "npz", "NPZ")


def floats(train=(3, 7, 13), test=(2, 5, 4), dtype=np.float32):
    rng = np.random.default_rng(0)
    made = {}
    for side, shape in (("train", train), ("test", test)):
        made[f"{side}_gt"] = rng.random(shape).astype(dtype)
        made[f"{side}_ns"] = (made[f"{side}_gt"] + rng.normal(0, 0.1, shape)).astype(dtype)
    return made


def save(path, arrays, **how):
    if path.suffix.lower() == ".npz":
        with open(path, "wb") as file:
            (np.savez_compressed if how else np.savez)(file, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for key, values in arrays.items():
                file.create_dataset(key, data=values, **how)
    return path


def window(high):
    return GreyWanted(Window(low_hu=0, high_hu=high, clip=False))


def noisy_hu(pair):
    """(1, Y, X) the noisy image of a pair, as the store reads it."""
    return pair.pairs.read_one(pair.side, "ns", pair.index)


def read(path, wanted=AS_FOUND):
    """{name: (clean, noisy)} of every pair."""
    pairs = {name: open_pair(path, name, wanted) for name in open_pairs(path, wanted).names}
    return {name: (p.read_hu()[0], noisy_hu(p)) for name, p in pairs.items()}


@pytest.fixture(params=ENDINGS)
def path(request, tmp_path):
    return tmp_path / f"set.{request.param}"


def test_a_set_holds_a_case_for_every_pair_of_either_side(path):
    cases = find_cases(save(path, floats()))
    names = ["test_00000", "test_00001", "train_00000", "train_00001", "train_00002"]
    assert [case.name for case in cases] == names
    assert {case.path for case in cases} == {path}


def test_a_pair_is_one_slice_without_a_scale(path):
    save(path, floats())
    pair = open_pair(path, "test_00001")
    assert pair.shape == (1, 5, 4)
    assert pair.spacing_mm == (1.0, 1.0, 1.0)
    assert pair.read_hu()[0].shape == noisy_hu(pair).shape == (1, 5, 4)


@pytest.mark.parametrize("dtype", [np.float16, ">f4", np.float64])
def test_floats_are_stored_as_ten_thousandths(path, dtype):
    arrays = floats(dtype=dtype)
    found = read(save(path, arrays))
    for name, images in found.items():
        side, _, i = name.partition("_")
        for kind, hu in zip(("gt", "ns"), images, strict=True):
            exact = arrays[f"{side}_{kind}"][int(i)].astype(np.float64)
            assert hu.dtype == np.int16
            assert np.abs(hu[0] / 1e4 - exact).max() <= 5.001e-5


def test_one_becomes_ten_thousand(path):
    arrays = {key: np.ones((1, 2, 2)) for key in KEYS}
    assert (read(save(path, arrays))["train_00000"][0] == 10_000).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, ">i4", np.int64, np.uint64])
@pytest.mark.parametrize("high", [255, 10_000])
def test_whole_numbers_are_mapped_to_the_window_and_bytes_are_kept_in_theirs(path, dtype, high):
    arrays = {key: np.arange(6 * 35).reshape(6, 7, 5) % 124 + i for i, key in enumerate(KEYS)}
    arrays = {key: values.astype(dtype) for key, values in arrays.items()}
    for name, (clean, noisy) in read(save(path, arrays), window(high)).items():
        side, _, i = name.partition("_")
        for hu, kind in ((clean, "gt"), (noisy, "ns")):
            exact = arrays[f"{side}_{kind}"][int(i)].astype(float) * (high / 255)
            np.testing.assert_array_equal(hu[0], np.rint(exact))


@pytest.mark.parametrize("dtype", [np.int16, ">i4", np.int64, np.float32, np.float64])
def test_hounsfield_units_are_kept_as_they_are(path, dtype):
    rng = np.random.default_rng(0)
    hu = {key: rng.integers(-1000, 1500, (3, 7, 13)).astype(dtype) for key in KEYS}
    for window_ in (Window(), None):
        for name, images in read(save(path, hu), GreyWanted(window_)).items():
            side, _, i = name.partition("_")
            for kind, found in zip(("gt", "ns"), images, strict=True):
                np.testing.assert_array_equal(found[0], hu[f"{side}_{kind}"][int(i)])


def test_a_last_axis_of_one_channel_changes_nothing(tmp_path, path):
    flat = floats()
    channels = {key: values[..., None] for key, values in flat.items()}
    channels["test_gt"] = flat["test_gt"]
    one, other = read(save(path, channels)), read(save(tmp_path / "flat.npz", flat))
    for name in other:
        np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize("shape", [(1, 7, 13), (1, 1, 1), (1, 1, 9), (11, 3, 2)])
def test_sets_of_any_size_without_test_pairs_are_read(path, tmp_path, shape):
    arrays = floats(shape, (0, 4, 4))
    cases = find_cases(save(path, arrays))
    assert len(cases) == shape[0]
    store = Store(tmp_path / "store")
    for i, case in enumerate(cases):
        expected = np.rint(arrays["train_gt"][i].astype(np.float64) * 1e4)
        np.testing.assert_array_equal(store.volume(case).hu[0], expected)


@pytest.mark.parametrize("block", [1, 300, 2**26])
@pytest.mark.parametrize("chunk", [None, (1, 7, 13), (5, 2, 13), (9, 7, 13)])
def test_blocks_and_chunks_change_no_value(tmp_path, monkeypatch, block, chunk):
    monkeypatch.setattr("volumes.dataset.pairs._BLOCK_BYTES", block)
    arrays = floats((9, 7, 13))
    how = {"chunks": chunk, "compression": "gzip"} if chunk else {}
    save(tmp_path / "set.h5", {k: v for k, v in arrays.items() if "train" in k}, **how)
    with h5py.File(tmp_path / "set.h5", "a") as file:
        file["test_gt"], file["test_ns"] = arrays["test_gt"], arrays["test_ns"]
    blocks = list(open_pairs(tmp_path / "set.h5").read("train"))
    first = len(blocks[0][0])
    assert first == 9 if block == 2**26 else first == (chunk or (1,))[0]
    for part, key in enumerate(("train_gt", "train_ns")):
        found = np.concatenate([both[part] for both in blocks])
        np.testing.assert_array_equal(found, np.rint(arrays[key].astype(np.float64) * 1e4))


def test_arrays_in_fortran_order_are_read_correctly(path, tmp_path):
    arrays = floats()
    turned = {key: np.asfortranarray(values) for key, values in arrays.items()}
    one, other = read(save(path, turned)), read(save(tmp_path / "other.npz", arrays))
    for name in other:
        np.testing.assert_array_equal(one[name], other[name])


def test_compressed_archives_are_read(tmp_path):
    one = read(save(tmp_path / "one.npz", floats(), compressed=True))
    other = read(save(tmp_path / "other.npz", floats()))
    for name in other:
        np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize("key", KEYS)
def test_a_set_without_one_of_its_arrays_is_refused(path, key):
    arrays = floats()
    del arrays[key]
    with pytest.raises(BadInput, match=rf"holds no {key}\. Save .* as train_ns, train_gt,"):
        find_cases(save(path, arrays))


def test_all_arrays_that_are_missing_are_named_at_once(path):
    save(path, {"images": np.zeros((2, 3, 4)), "test_gt": np.zeros((2, 3, 4))})
    with pytest.raises(BadInput, match="holds no train_ns, no train_gt, no test_ns"):
        find_cases(path)


@pytest.mark.parametrize(
    ("key", "shape"),
    [("train_ns", (2, 7, 13)), ("train_gt", (3, 13, 7)), ("test_ns", (2, 5, 5))],
)
def test_noisy_images_of_another_shape_than_the_clean_ones_are_refused(path, key, shape):
    arrays = floats() | {key: np.zeros(shape, np.float32)}
    with pytest.raises(BadInput, match=rf"has {key[:-3]}_ns of shape .* beside {key[:-3]}_gt"):
        find_cases(save(path, arrays))


@pytest.mark.parametrize(
    "shape",
    [(), (91,), (7, 13), (3, 7, 13, 2), (3, 7, 13, 1, 1), (3, 0, 13), (3, 7, 0), (1, 3, 7, 3)],
)
def test_arrays_that_are_no_row_of_grey_images_are_refused(path, shape):
    arrays = {key: np.zeros(shape, np.float32) for key in KEYS}
    with pytest.raises(BadInput, match=r"has train_ns of shape .*, not \(N, Y, X\)"):
        find_cases(save(path, arrays))


def test_an_hdf5_array_of_no_shape_at_all_is_refused(tmp_path):
    save(tmp_path / "set.h5", floats() | {"test_ns": h5py.Empty("f4")})
    with pytest.raises(BadInput, match=r"test_ns of shape \(\), not \(N, Y, X\)"):
        find_cases(tmp_path / "set.h5")


def test_a_set_without_any_pair_is_refused(path):
    with pytest.raises(BadInput, match="holds no pair"):
        find_cases(save(path, floats((0, 4, 4), (0, 4, 4))))


@pytest.mark.parametrize("dtype", [bool, np.complex64, "S3", [("a", "f4")]])
def test_what_is_no_real_number_is_refused(path, dtype):
    arrays = floats() | {"test_gt": np.zeros((2, 5, 4), dtype)}
    with pytest.raises(BadInput, match=r"has test_gt of datatype .*, not real numbers"):
        find_cases(save(path, arrays))


@pytest.mark.parametrize("key", KEYS)
def test_whole_numbers_beside_floats_are_refused(path, key):
    arrays = floats()
    arrays[key] = np.zeros(arrays[key].shape, np.uint8)
    with pytest.raises(BadInput, match="mixes whole numbers with floats"):
        find_cases(save(path, arrays))


def test_signed_whole_numbers_beside_unsigned_ones_are_taken(path):
    arrays = {key: np.full((1, 2, 2), 200, np.uint8) for key in KEYS}
    arrays["train_ns"] = np.full((1, 2, 2), -5, np.int16)
    clean, noisy = read(save(path, arrays), window(255))["train_00000"]
    assert (clean == 200).all()
    assert (noisy == -5).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3.3, -3.4, 255.0, 1e38])
@pytest.mark.parametrize("key", KEYS)
def test_floats_that_cannot_be_kept_are_refused_with_their_place(path, tmp_path, key, value):
    arrays = floats()
    arrays[key][1, 4, 2] = value
    save(path, arrays)
    case = Case(f"{key[:-3]}_00000", path)
    with pytest.raises(BadInput, match=rf"{key} holds .* in pair 1, which int16 cannot hold"):
        Store(tmp_path / "store").volume(case)
    assert not list((tmp_path / "store" / _LAYOUT).glob("*.npy"))


def test_the_place_of_a_value_is_counted_from_the_first_block(tmp_path, monkeypatch):
    monkeypatch.setattr("volumes.dataset.pairs._BLOCK_BYTES", 1)
    arrays = floats((9, 7, 13))
    arrays["train_gt"][7, 0, 3] = np.nan
    with pytest.raises(BadInput, match="train_gt holds nan in pair 7,"):
        list(open_pairs(save(tmp_path / "set.h5", arrays)).read("train"))


@pytest.mark.parametrize("value", [3.2767, -3.2768])
def test_the_largest_floats_that_fit_are_kept(path, value):
    arrays = floats(dtype=np.float64)
    arrays["train_ns"][0, 0, 0] = value
    assert read(save(path, arrays))["train_00000"][1][0, 0, 0] == round(value * 1e4)


@pytest.mark.parametrize(
    ("value", "dtype"), [(32768, np.uint16), (-32769, np.int32), (2**64 - 1, np.uint64)]
)
def test_whole_numbers_beyond_int16_are_refused_and_never_clipped(path, value, dtype):
    arrays = {key: np.full((3, 2, 2), 90, dtype) for key in KEYS}
    arrays["train_ns"][2, 1, 0] = value
    save(path, arrays)
    with pytest.raises(BadInput, match=r"train_ns holds .* in pair 2, which int16 cannot hold"):
        open_pairs(path, window(255))
    arrays["train_ns"][2, 1, 0] = 5
    list(open_pairs(save(path, arrays), window(255)).read("train"))


class Trap:
    """Unpickling it makes a folder."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_an_archive_of_pickles_is_refused_and_never_unpickled(tmp_path):
    arrays = floats() | {"test_ns": np.full((2, 5, 4), Trap(tmp_path / "sprung"), object)}
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(BadInput, match="test_ns of datatype object"):
        find_cases(tmp_path / "set.npz")
    assert not (tmp_path / "sprung").exists()


def test_a_pickle_that_is_called_an_archive_is_refused_and_never_unpickled(tmp_path):
    with open(tmp_path / "set.npz", "wb") as file:
        np.save(file, np.full(3, Trap(tmp_path / "sprung"), object))
    with pytest.raises(BadInput, match="it is not an archive of arrays"):
        find_cases(tmp_path / "set.npz")
    assert not (tmp_path / "sprung").exists()


def test_members_of_an_archive_that_are_no_arrays_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.npz", "w") as archive:
        for key in KEYS:
            archive.writestr(f"{key}.npy", b"text that is longer than a header")
    with pytest.raises(BadInput, match=r"cannot be read as \.npz"):
        find_cases(tmp_path / "set.npz")


@pytest.mark.parametrize(
    "content", [b"", b"text", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"\x93NUMPY"]
)
def test_a_file_of_other_content_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"cannot be read as (HDF5|\.npz)") as caught:
        find_cases(path)
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.6, 0.9, 0.99])
def test_a_truncated_file_is_refused(path, tmp_path, kept):
    content = save(path, floats((30, 7, 13))).read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(BadInput, match="cannot be read as"):
        Store(tmp_path / "store").volume(find_cases(path)[-1])


def test_no_flipped_bit_in_an_archive_changes_a_value_unnoticed(tmp_path):
    path = tmp_path / "set.npz"
    content = save(path, floats((2, 3, 4), (1, 3, 3))).read_bytes()
    expected, refused = read(path), 0
    for place in range(0, len(content) * 8, 13):
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        path.unlink()
        path.write_bytes(flipped)
        os.utime(path, ns=(place, place))
        try:
            found = read(path)
        except BadInput:
            refused += 1
            continue
        assert sorted(found) == sorted(expected), place
        for name in expected:
            np.testing.assert_array_equal(found[name], expected[name], str(place))
    assert refused > 0.5 * len(range(0, len(content) * 8, 13))


def test_a_header_that_declares_more_than_the_file_can_hold_is_refused(tmp_path):
    with h5py.File(tmp_path / "set.h5", "w") as file:
        for key in KEYS:  # chunks that were never written take no room
            file.create_dataset(key, (10**6, 512, 512), "f4", chunks=(1, 512, 512))
    with pytest.raises(BadInput, match="declares 4,194,304,000,000 bytes, more than"):
        find_cases(tmp_path / "set.h5")


def test_an_archive_s_header_that_declares_another_length_is_refused(tmp_path):
    save(tmp_path / "set.npz", floats())
    with zipfile.ZipFile(tmp_path / "set.npz") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "set.npz", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content.replace(b"(3, 7, 13)", b"(2, 7, 13)"))
    with pytest.raises(BadInput, match="train_ns of another length than its header says"):
        find_cases(tmp_path / "set.npz")


def test_negative_sizes_whose_product_is_right_are_refused(tmp_path):
    save(tmp_path / "set.npz", floats())
    with zipfile.ZipFile(tmp_path / "set.npz") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "set.npz", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content.replace(b"(3, 7, 13), }  ", b"(-3, -7, 13), }"))
    with pytest.raises(BadInput, match=r"has train_ns of shape \(-3, -7, 13\), not"):
        find_cases(tmp_path / "set.npz")


def external_link(file, other):
    file["test_ns"] = h5py.ExternalLink(other, "test_ns")


def link_through_another_file(file, other):
    file["there"] = h5py.ExternalLink(other, "/")
    file["test_ns"] = h5py.SoftLink("/there/test_ns")


def virtual(file, other):
    layout = h5py.VirtualLayout((2, 5, 4), np.float32)
    layout[:] = h5py.VirtualSource(other, "test_ns", (2, 5, 4))
    file.create_virtual_dataset("test_ns", layout)


def external_bytes(file, other):
    file.create_dataset("test_ns", (2, 5, 4), "f4", external=[(other, 0, h5py.h5f.UNLIMITED)])


@pytest.mark.parametrize(
    "link", [external_link, link_through_another_file, virtual, external_bytes]
)
def test_arrays_that_lie_in_another_file_are_refused(tmp_path, link):
    arrays = floats()
    save(tmp_path / "other.h5", {"test_ns": arrays.pop("test_ns")})
    save(tmp_path / "set.h5", arrays)
    with h5py.File(tmp_path / "set.h5", "a") as file:
        link(file, str(tmp_path / "other.h5"))
    with pytest.raises(BadInput, match="keeps test_ns in another file"):
        find_cases(tmp_path / "set.h5")


def test_a_group_in_place_of_an_array_is_refused(tmp_path):
    arrays = floats()
    del arrays["train_gt"]
    save(tmp_path / "set.h5", arrays)
    with h5py.File(tmp_path / "set.h5", "a") as file:
        file.create_group("train_gt")
    with pytest.raises(BadInput, match="has a group train_gt, not an array"):
        find_cases(tmp_path / "set.h5")


def test_a_set_that_is_not_there_is_refused(path):
    with pytest.raises(BadInput, match="cannot be read: No such file"):
        find_cases(path)


def test_a_folder_called_as_a_set_is_a_folder(path, phantom_hu):
    path.mkdir()
    nifti.write_hu(path / "scan.nii", phantom_hu, (1.0, 1.0, 1.0))
    assert [case.name for case in find_cases(path)] == ["scan"]


@pytest.mark.parametrize("name", ["train_00003", "test_00002", "train_0", "other_00000", "train"])
def test_a_pair_that_a_set_does_not_hold_is_refused(path, name):
    save(path, floats())
    with pytest.raises(BadInput, match=f"holds no pair {name}"):
        Case(name, path).open()


def test_the_name_of_noisy_scans_changes_nothing_for_a_set(path):
    save(path, floats())
    assert find_cases(path, "quarter") == find_cases(path)


def test_the_declared_sides_of_a_set_can_be_the_sides_of_a_split(path):
    cases = find_cases(save(path, floats()))
    sides = Split(validation=("test_*",), test=()).assign(path, cases)
    assert [case.name for case in sides["training"]] == [f"train_0000{i}" for i in range(3)]
    assert [case.name for case in sides["validation"]] == ["test_00000", "test_00001"]
    assert sides["test"] == []


@pytest.mark.parametrize("patient", [r"(train|test)", r"case_(\d+)"])
def test_each_pair_of_a_set_is_its_own_patient(path, patient):
    cases = find_cases(save(path, floats()))
    sides = Split(validation=1, test=1, patient=patient).assign(path, cases)
    assert [len(sides[side]) for side in ("training", "validation", "test")] == [3, 1, 1]


def test_h5py_is_imported_for_sets_alone(tmp_path, phantom_file):
    program = (
        "import sys; from pathlib import Path; import volumes; "
        "from volumes.dataset.store import _LAYOUT, Store; from volumes.dataset import find_cases; "
        "find_cases(Path(sys.argv[1])); print('h5py' in sys.modules)"
    )
    command = [sys.executable, "-c", program, phantom_file.parent]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=True)
    assert done.stdout == b"False\n"


# Scans in pairs


@pytest.fixture
def both(tmp_path):
    """A case of two scans of (5, 6, 7) voxels that tell every index apart."""
    folder = tmp_path / "data" / "case_00000"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    clean = rng.integers(-800, 1500, (5, 6, 7)).astype(np.int16)
    noisy = (clean + rng.normal(0, 90, clean.shape)).astype(np.int16)
    nifti.write_hu(folder / "imaging.nii.gz", clean, (3.0, 0.8, 0.7))
    nifti.write_hu(folder / "quarter.nii.gz", noisy, (3.0, 0.8, 0.7))
    return folder, clean, noisy


def rewrite(path, change):
    """Writes a scan anew with what `change` makes of its voxels and affine."""
    image = nib.load(path)
    voxels, affine = change(np.asanyarray(image.dataobj), image.affine.copy())
    path.unlink()
    nib.save(nib.Nifti1Image(voxels, affine), path)


@pytest.mark.parametrize(
    "axes", [((0, 1), (1, 1), (2, -1)), ((2, 1), (0, -1), (1, 1)), ((1, -1), (2, -1), (0, -1))]
)
def test_a_noisy_scan_of_another_order_of_axes_gives_the_same_voxels(both, tmp_path, axes):
    folder, clean, noisy = both

    def turned(voxels, affine):
        back = nib.orientations.inv_ornt_aff(axes, voxels.shape)
        return nib.orientations.apply_orientation(voxels, axes), affine @ back

    rewrite(folder / "quarter.nii.gz", turned)
    volume = Store(tmp_path / "store").volume(*find_cases(folder.parent, "quarter"))
    np.testing.assert_array_equal(volume.hu, clean)
    np.testing.assert_array_equal(volume.noisy_hu, noisy)


def shifted(mm):
    def change(voxels, affine):
        affine[1, 3] += mm
        return voxels, affine

    return change


def flipped_without_its_affine(voxels, affine):
    affine[:, 0] *= -1
    return voxels, affine


def coarser(voxels, affine):
    affine[:, 2] *= 1.1
    return voxels, affine


def rounded(voxels, affine):
    return voxels, affine + 1e-3


@pytest.mark.parametrize(
    "change", [shifted(0.1), shifted(0.4), shifted(-30), flipped_without_its_affine, coarser]
)
def test_a_noisy_scan_that_lies_elsewhere_is_refused(both, change):
    folder, _, _ = both
    rewrite(folder / "quarter.nii.gz", change)
    (case,) = find_cases(folder.parent, "quarter")
    with pytest.raises(BadInput, match=r"quarter\.nii\.gz: lies up to .* mm away .*imaging\.nii"):
        case.open()


@pytest.mark.parametrize("change", [shifted(0.02), shifted(-0.05), rounded])
def test_what_headers_lose_in_rounding_is_no_other_grid(both, change):
    folder, _, _ = both
    rewrite(folder / "quarter.nii.gz", change)
    (case,) = find_cases(folder.parent, "quarter")
    assert case.open().shape == (5, 6, 7)


def test_one_slice_of_another_thickness_is_refused(tmp_path, phantom_hu):
    for name, thickness_mm in (("imaging", 3.0), ("quarter", 5.0)):
        (tmp_path / "case").mkdir(exist_ok=True)
        path = tmp_path / "case" / f"{name}.nii"
        nifti.write_hu(path, phantom_hu[:1], (thickness_mm, 1.0, 1.0))
    with pytest.raises(BadInput, match="lies up to 1 mm away"):
        find_cases(tmp_path, "quarter")[0].open()


@pytest.mark.parametrize("shape", [(4, 6, 7), (5, 7, 6), (5, 6, 8)])
def test_a_noisy_scan_of_another_shape_is_refused(both, shape):
    folder, _, _ = both
    path = folder / "quarter.nii.gz"
    nifti.write_hu(path, np.zeros(shape, np.int16), (3.0, 0.8, 0.7), overwrite=True)
    (case,) = find_cases(folder.parent, "quarter")
    with pytest.raises(BadInput, match=r"has .* voxels .*, its clean scan .* has 5 x 6 x 7"):
        case.open()


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x1f\x8b\x08"])
def test_a_noisy_file_that_is_no_scan_is_refused_by_its_own_name(both, content):
    folder, _, _ = both
    (folder / "quarter.nii.gz").write_bytes(content)
    (case,) = find_cases(folder.parent, "quarter")
    with pytest.raises(BadInput, match=r"quarter\.nii\.gz"):
        case.open()


def test_the_canonical_affine_leads_to_the_same_millimetres(tmp_path):
    rng = np.random.default_rng(3)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * (0.7, 0.9, 2.5), (11, -7, 300)
    stored = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    nib.save(nib.Nifti1Image(stored, affine), tmp_path / "scan.nii")
    scan = nifti.open_scan(tmp_path / "scan.nii")
    canonical = scan.canonical(scan.read())
    for index in np.ndindex(stored.shape):
        place = np.argwhere(canonical == stored[index])[0]
        there = scan.canonical_affine @ (*place, 1)
        np.testing.assert_allclose(there, affine @ (*index, 1), atol=1e-4)
