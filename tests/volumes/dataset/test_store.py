from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import zlib
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.gates.catalogue import content
from tests.volumes.conversions import counted
from volumes import nifti
from volumes.dataset import Case, find_cases
from volumes.dataset.pairs import Pairs
from volumes.dataset.store import _LAYOUT, Store, default_root
from volumes.errors import BadInput, CannotWrite
from volumes.nifti.read_options import ReadOptions
from volumes.storage import array_cache, digest, memory

ROOT = Path(__file__).parents[3]


@pytest.fixture
def hu():
    """(17, 19, 13): no value is padding."""
    return np.random.default_rng(0).integers(-800, 1500, (17, 19, 13)).astype(np.int16)


@pytest.fixture
def case(tmp_path, hu):
    path = tmp_path / "case_00000" / "imaging.nii.gz"
    path.parent.mkdir()
    nifti.write_hu(path, hu, (3.0, 0.8, 0.7))
    return Case("case_00000", path)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def only(store, pattern):
    (path,) = found(store, pattern)
    return path


def found(store, pattern):
    """The files of voxels; masks of padding lie beside them."""
    return [path for path in (store.root / _LAYOUT).glob(pattern) if "-padding" not in path.name]


def test_a_volume_has_the_voxels_of_its_scan(store, case, hu):
    np.testing.assert_array_equal(store.volume(case).hu, hu)


def test_a_volume_has_the_spacing_and_the_name_of_its_scan(store, case):
    volume = store.volume(case)
    assert volume.spacing_mm == pytest.approx((3.0, 0.8, 0.7))
    assert volume.case == "case_00000"


@pytest.mark.parametrize("shape", [(1, 40, 30), (3, 1, 5), (1, 1, 1)])
def test_volumes_of_any_shape_are_stored(store, tmp_path, shape):
    hu = np.arange(np.prod(shape), dtype=np.int16).reshape(shape) - np.int16(100)
    nifti.write_hu(tmp_path / "scan.nii", hu, (1.0, 1.0, 1.0))
    np.testing.assert_array_equal(store.volume(Case("scan", tmp_path / "scan.nii")).hu, hu)


def test_voxels_are_mapped_into_memory_and_cannot_be_written(store, case):
    volume = store.volume(case)
    assert isinstance(volume.hu, np.memmap)
    assert volume.hu.dtype == np.int16
    with pytest.raises(ValueError, match="read-only"):
        volume.hu[0, 0, 0] = 5


def test_a_second_call_converts_nothing(store, case, hu, monkeypatch):
    store.volume(case)
    converted = counted(monkeypatch)
    np.testing.assert_array_equal(Store(store.root).volume(case).hu, hu)
    assert converted == []


def test_the_same_scan_under_another_name_is_converted_once(store, case, tmp_path, monkeypatch):
    store.volume(case)
    copy = tmp_path / "copy.nii.gz"
    copy.write_bytes(case.path.read_bytes())
    converted = counted(monkeypatch)
    assert store.volume(Case("copy", copy)).case == "copy"
    assert converted == []


def test_padding_becomes_air(store, tmp_path, hu):
    hu[:, :6, :] = -2000
    hu[3, 10, 5] = -1400
    nifti.write_hu(tmp_path / "scan.nii", hu, (1.0, 1.0, 1.0))
    stored = store.volume(Case("scan", tmp_path / "scan.nii")).hu
    assert (stored[:, :6] == -1000).all()
    np.testing.assert_array_equal(stored[:, 6:], hu[:, 6:])


def scan_order(scan, canonical):
    """Values of (Z, Y, X) in the order of the file."""
    stored = np.empty(scan.stored_shape, canonical.dtype, order="F")
    scan.canonical(stored)[:] = canonical
    return stored


@pytest.mark.parametrize("values", [[1e6], [0.25, -0.75], [-32769]])
def test_what_int16_cannot_hold_is_stored_as_float32_to_the_bit(store, tmp_path, hu, values):
    floats = hu.astype("f4")
    floats[5, 5, : len(values)] = values
    nifti.write_hu(tmp_path / "hu.nii", hu, (1.0, 1.0, 1.0))
    scan = nifti.open_scan(tmp_path / "hu.nii")
    nifti.write_derived(scan, scan_order(scan, floats), tmp_path / "scan.nii")
    volume = store.volume(Case("scan", tmp_path / "scan.nii"))
    assert volume.hu.dtype == np.float32
    np.testing.assert_array_equal(volume.hu, floats)
    assert not volume.odd[tmp_path / "scan.nii"]


def test_whole_hu_in_floats_are_stored_as_int16(store, tmp_path, hu):
    nifti.write_hu(tmp_path / "hu.nii", hu, (1.0, 1.0, 1.0))
    image = nib.load(tmp_path / "hu.nii")
    floats = np.asarray(image.dataobj, np.float64)
    floats[0, 0, :2] = np.nan
    nib.save(nib.Nifti1Image(floats, image.affine), tmp_path / "scan.nii")
    assert store.volume(Case("scan", tmp_path / "scan.nii")).hu.dtype == np.int16


def test_a_scan_scaled_to_one_keeps_its_values(store, tmp_path):
    unit = np.random.default_rng(0).uniform(0, 1, (12, 10, 8)).astype("f4")
    nib.save(nib.Nifti1Image(unit, np.diag([-1, -1, 2, 1])), tmp_path / "unit.nii.gz")
    case = Case("unit", tmp_path / "unit.nii.gz", trust=ReadOptions(hu=True))
    np.testing.assert_array_equal(np.sort(store.volume(case).hu, None), np.sort(unit, None))


def damaged(store, content):
    only(store, "*.npy").write_bytes(content)


@pytest.mark.parametrize("kept", [0, 1, 6, 9, 60, 128, 1000, -1])
def test_a_truncated_array_is_made_again(store, case, hu, kept):
    store.volume(case)
    damaged(store, only(store, "*.npy").read_bytes()[:kept])
    np.testing.assert_array_equal(store.volume(case).hu, hu)


def test_an_array_with_a_changed_voxel_is_made_again(store, case, hu):
    store.volume(case)
    content = bytearray(only(store, "*.npy").read_bytes())
    content[-7] ^= 1
    damaged(store, content)
    np.testing.assert_array_equal(store.volume(case).hu, hu)


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"'<i2'", b"'>i2'"), (b"'<i2'", b"'<u2'"), (b"'<i2'", b"'|O'"), (b"(17, 19,", b"(19, 17,"),
     (b"False", b"True "), (b"{", b"["), (b"\x93NUMPY", b"\x80NUMPY")],
)  # fmt: skip
def test_an_array_whose_own_header_was_changed_is_made_again(store, case, hu, old, new):
    store.volume(case)
    content = only(store, "*.npy").read_bytes()
    assert old in content
    damaged(store, content.replace(old, new))
    stored = store.volume(case).hu
    assert stored.dtype == np.int16
    np.testing.assert_array_equal(stored, hu)


@pytest.mark.filterwarnings("ignore:Data type alias 'a':DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Reading `.npy`:UserWarning")
def test_no_flipped_bit_in_a_stored_array_changes_what_is_read(store, case, hu):
    store.volume(case)
    content, rng = only(store, "*.npy").read_bytes(), np.random.default_rng(0)
    places = [*rng.integers(128 * 8, size=120), *rng.integers(len(content) * 8, size=60)]
    for place in places:
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        damaged(store, flipped)
        stored = store.volume(case).hu
        assert stored.dtype == np.int16, place
        np.testing.assert_array_equal(stored, hu, str(place))


@pytest.mark.parametrize("pattern", ["*.npy", "*.json"])
def test_a_half_written_store_is_completed(store, case, hu, monkeypatch, pattern):
    store.volume(case)
    only(store, pattern).unlink()
    converted = counted(monkeypatch)
    np.testing.assert_array_equal(store.volume(case).hu, hu)
    assert len(converted) == 1


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"crc32": 5}', b"\xff\xfe"])
def test_a_damaged_description_is_made_again(store, case, hu, content):
    store.volume(case)
    path = only(store, "*.json")
    path.write_bytes(content)
    np.testing.assert_array_equal(store.volume(case).hu, hu)
    assert json.loads(path.read_bytes())["shape"] == [17, 19, 13]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}"])
def test_a_damaged_note_is_made_again(store, case, hu, content):
    store.volume(case)
    only(store, "noted/*.json").write_bytes(content)
    np.testing.assert_array_equal(store.volume(case).hu, hu)


def test_an_interrupted_conversion_leaves_nothing_that_counts(store, case, hu, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(np.lib.format, "write_array_header_1_0", interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.volume(case)
    kept = [path for path in (store.root / _LAYOUT).iterdir() if path.is_file()]
    assert {path.suffix for path in kept} == {".lock"}
    np.testing.assert_array_equal(store.volume(case).hu, hu)


def interrupt(file, *_, **__):
    file.write(b"half")
    raise KeyboardInterrupt


@pytest.mark.parametrize("keep_time", [True, False])
def test_a_changed_scan_of_the_same_name_and_size_gives_the_new_voxels(tmp_path, hu, keep_time):
    store, path = Store(tmp_path / "store"), tmp_path / "scan.nii"
    nifti.write_hu(path, hu, (1.0, 1.0, 1.0))
    assert store.volume(Case("scan", path)).hu[0, 0, 0] == hu[0, 0, 0]
    before = path.stat()
    hu[0, 0, 0] += 1
    nifti.write_hu(path, hu, (1.0, 1.0, 1.0), overwrite=True)
    # A new file has an inode of its own, even where its time was copied from the old one.
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + (0 if keep_time else 10**9)))
    np.testing.assert_array_equal(store.volume(Case("scan", path)).hu, hu)


def test_a_scan_that_was_changed_in_place_gives_the_new_voxels(tmp_path, hu):
    store, path = Store(tmp_path / "store"), tmp_path / "scan.nii"
    nifti.write_hu(path, hu, (1.0, 1.0, 1.0))
    store.volume(Case("scan", path))
    inode, time_ns = path.stat().st_ino, path.stat().st_mtime_ns
    content = bytearray(path.read_bytes())
    content[-2:] = np.int16(77).tobytes()
    path.write_bytes(content)
    os.utime(path, ns=(time_ns, time_ns + 10**9))
    assert path.stat().st_ino == inode
    assert store.volume(Case("scan", path)).hu.ravel()[-1] == 77


def test_an_array_that_is_in_use_survives_its_repair(store, case, hu):
    first = store.volume(case).hu
    only(store, "*.json").unlink()
    store.volume(case)
    np.testing.assert_array_equal(first, hu)


def test_threads_that_want_the_same_scan_convert_it_once(store, case, hu, monkeypatch):
    converted, volumes, failures = counted(monkeypatch), [], []

    def want():
        try:
            volumes.append(store.volume(case))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(volumes) == 8
    for volume in volumes:
        np.testing.assert_array_equal(volume.hu, hu)
    assert len(converted) == 1


def test_processes_that_want_the_same_scan_all_get_it(store, case, hu):
    program = (
        "import sys, zlib; from pathlib import Path; from volumes.dataset import Case; "
        "from volumes.dataset.store import Store; "
        "hu = Store(Path(sys.argv[1])).volume(Case('a', Path(sys.argv[2]))).hu; "
        "print(hu.shape, zlib.crc32(hu.tobytes()))"
    )
    command = [sys.executable, "-c", program, store.root, case.path]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    running = [subprocess.Popen(command, cwd=ROOT, **pipes) for _ in range(2)]
    printed = [process.communicate(timeout=60) for process in running]
    expected = f"{hu.shape} {zlib.crc32(hu.tobytes())}\n".encode()
    assert printed == [(expected, b"")] * 2


def test_a_damaged_scan_is_refused_and_never_stored(store, case):
    content = bytearray(case.path.read_bytes())
    content[len(content) // 2] ^= 16
    case.path.write_bytes(content)
    with pytest.raises(BadInput):
        store.volume(case)
    assert not list((store.root / _LAYOUT).glob("*.npy"))


def test_without_a_writable_folder_volumes_are_held_in_memory_with_one_warning(tmp_path, case, hu):
    (tmp_path / "file").write_bytes(b"")
    messages = []
    store = Store(tmp_path / "file", messages.append)
    for _ in range(3):
        volume = store.volume(case)
        np.testing.assert_array_equal(volume.hu, hu)
        with pytest.raises(ValueError, match="read-only"):
            volume.hu[0, 0, 0] = 5
    assert len(messages) == 1
    assert messages[0].startswith(f"{tmp_path / 'file'}")
    assert "the cache is read-only" in messages[0]


def test_a_volume_that_does_not_fit_into_memory_is_refused(tmp_path, case, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setattr(memory, "free_bytes", lambda: 8000)
    with pytest.raises(CannotWrite, match="its 8,398 bytes do not fit into memory") as caught:
        Store(tmp_path / "file").volume(case)
    assert "ENGINE_CACHE" in caught.value.remedy


def test_an_array_that_cannot_be_locked_is_read_and_another_is_held_in_memory(store, case, hu):
    store.volume(case)
    lock = only(store, "*.lock")
    lock.unlink()
    lock.mkdir()
    assert isinstance(store.volume(case).hu, np.memmap)
    only(store, "*.npy").unlink()
    messages = []
    held = Store(store.root, messages.append).volume(case).hu
    assert not isinstance(held, np.memmap)
    np.testing.assert_array_equal(held, hu)
    assert str(lock) in messages[0]


def test_a_damaged_array_is_reported_and_a_missing_one_is_not(store, case):
    messages = []
    Store(store.root, messages.append).volume(case)
    assert messages == []
    path = only(store, "*.npy")
    path.write_bytes(path.read_bytes()[:-1])
    for _ in range(2):
        Store(store.root, messages.append).volume(case)
    assert messages == [f"{path}: is damaged; it is computed again"]


def test_a_scan_that_changes_between_its_hash_and_its_voxels_is_refused_and_never_stored(
    store, case, hu, monkeypatch
):
    read = nifti.Scan.read_voxels

    def changing(scan):
        nifti.write_hu(case.path, hu + 1, (3.0, 0.8, 0.7), overwrite=True)
        return read(scan)

    with monkeypatch.context() as patch:
        patch.setattr(nifti.Scan, "read_voxels", changing)
        with pytest.raises(BadInput, match="was changed while it was read"):
            store.volume(case)
    assert not list((store.root / _LAYOUT).glob("*.npy"))
    np.testing.assert_array_equal(store.volume(case).hu, hu + 1)


def test_a_scan_whose_time_was_set_back_gives_the_new_voxels(tmp_path, hu):
    store, path = Store(tmp_path / "store"), tmp_path / "scan.nii"
    nifti.write_hu(path, hu, (1.0, 1.0, 1.0))
    store.volume(Case("scan", path))
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[-2:] = np.int16(77).tobytes()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (
        before.st_size, before.st_mtime_ns, before.st_ino,
    )  # fmt: skip
    assert store.volume(Case("scan", path)).hu.ravel()[-1] == 77


@pytest.mark.parametrize(("name", "places"), [("*.json", 40), ("noted/*.json", 40)])
def test_no_flipped_bit_in_a_note_changes_the_volume_of_a_scan(store, case, hu, name, places):
    whole = store.volume(case)
    content, rng = only(store, name).read_bytes(), np.random.default_rng(1)
    for place in rng.integers(len(content) * 8, size=places):
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        only(store, name).write_bytes(flipped)
        volume = store.volume(case)
        assert (volume.sha256, volume.odd) == (whole.sha256, whole.odd), place
        np.testing.assert_array_equal(volume.hu, hu)


def test_what_a_killed_process_left_half_written_is_swept(store, case):
    (store.root / _LAYOUT).mkdir(parents=True)
    sha256 = digest.sha256(case.path)
    old, young = (store.root / _LAYOUT / f".{sha256[:40]}.{pid}-7.tmp" for pid in (1, 2))
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    store.volume(case)
    assert (old.exists(), young.exists()) == (False, True)


def test_another_way_to_make_arrays_asks_for_another_layout(store, tmp_path):
    # Where this fails, what is stored has changed: so must `_LAYOUT`, or old stores would be read.
    hu = (np.arange(5 * 9 * 7) * 37 % 2100 - 1000).astype("f4").reshape(5, 9, 7)
    hu[:, :3] = -2000
    hu[2, 5, 5] = np.nan
    hu[4, 8, 6] = 1e6
    nifti.write_hu(tmp_path / "a.nii", np.zeros(hu.shape, np.int16), (3.0, 0.8, 0.8))
    nifti.write_derived(nifti.open_scan(tmp_path / "a.nii"), hu, tmp_path / "float.nii")
    volume = store.volume(Case("float", tmp_path / "float.nii"), scanned=True)
    stored = zlib.crc32(np.ascontiguousarray(volume.hu)), zlib.crc32(bytes(volume.padded))
    assert (_LAYOUT, *stored) == ("v4", 1381796640, 1223276700)


@pytest.fixture
def noisy_hu(hu):
    """(17, 19, 13): a noisy copy with values that alone would pass for padding."""
    noise = np.random.default_rng(1).normal(0, 90, hu.shape).astype(np.int16)
    noisy = hu + noise
    noisy[4, 5:9, 5:9] = -2000
    return noisy


@pytest.fixture
def paired(case, noisy_hu):
    noisy = case.path.with_name("quarter.nii.gz")
    nifti.write_hu(noisy, noisy_hu, (3.0, 0.8, 0.7))
    return replace(case, noisy=noisy)


def of_the_recording(store, pattern="*.npy"):
    """The file of the second array of a pair of scans."""
    return next(path for path in found(store, pattern) if "-" in path.stem)


def test_a_case_without_a_noisy_recording_has_none(store, case):
    assert store.volume(case).noisy_hu is None


def test_a_noisy_recording_lies_beside_its_scan(store, paired, hu, noisy_hu):
    volume = store.volume(paired)
    np.testing.assert_array_equal(volume.hu, hu)
    np.testing.assert_array_equal(volume.noisy_hu, noisy_hu)
    assert isinstance(volume.noisy_hu, np.memmap)
    assert volume.noisy_hu.dtype == np.int16
    with pytest.raises(ValueError, match="read-only"):
        volume.noisy_hu[0, 0, 0] = 5


def test_a_recording_changes_neither_the_identity_nor_the_array_of_its_scan(store, case, paired):
    alone = store.volume(case)
    beside = store.volume(paired)
    assert beside.sha256 == alone.sha256
    np.testing.assert_array_equal(beside.hu, alone.hu)


def test_padding_of_the_clean_scan_is_air_in_both(store, paired, hu, noisy_hu):
    hu[:, :6] = -2000
    nifti.write_hu(paired.path, hu, (3.0, 0.8, 0.7), overwrite=True)
    volume = store.volume(paired)
    assert (volume.hu[:, :6] == -1000).all()
    assert (volume.noisy_hu[:, :6] == -1000).all()
    np.testing.assert_array_equal(volume.noisy_hu[:, 6:], noisy_hu[:, 6:])


def test_what_is_no_number_in_either_scan_is_air_in_the_recording(store, paired, hu, noisy_hu):
    for path, values, place in (
        (paired.path, hu, (1, 2, 3)),
        (paired.noisy, noisy_hu, (5, 6, 7)),
    ):
        scan = nifti.open_scan(path)
        floats = scan.hu(scan.read())
        scan.canonical(floats)[place] = np.nan
        nifti.write_derived(scan, floats, path.with_name("new.nii.gz"))
        path.with_name("new.nii.gz").replace(path)
        values[place] = -1000
    noisy_hu[1, 2, 3] = -1000
    volume = store.volume(paired)
    np.testing.assert_array_equal(volume.hu, hu)
    np.testing.assert_array_equal(volume.noisy_hu, noisy_hu)


def test_a_recording_keeps_values_that_are_not_whole(store, paired, noisy_hu):
    scan = nifti.open_scan(paired.noisy)
    floats = noisy_hu + np.float32(0.25)
    nifti.write_derived(scan, scan_order(scan, floats), paired.noisy.with_name("new.nii.gz"))
    paired.noisy.with_name("new.nii.gz").replace(paired.noisy)
    for volume in (store.volume(paired), Store(store.root).volume(paired)):
        assert (volume.hu.dtype, volume.noisy_hu.dtype) == (np.int16, np.float32)
        np.testing.assert_array_equal(volume.noisy_hu, floats)


def test_a_second_call_converts_no_recording(store, paired, noisy_hu, monkeypatch):
    store.volume(paired)
    converted = counted(monkeypatch)
    np.testing.assert_array_equal(Store(store.root).volume(paired).noisy_hu, noisy_hu)
    assert converted == []


def test_the_scan_of_one_pair_may_be_the_recording_of_another(store, paired, hu, noisy_hu):
    swapped = Case("swapped", paired.noisy, paired.path)
    store.volume(paired)
    np.testing.assert_array_equal(store.volume(swapped).noisy_hu[:3], hu[:3])
    np.testing.assert_array_equal(store.volume(paired).noisy_hu, noisy_hu)


def test_one_recording_beside_two_scans_has_the_padding_of_each(store, tmp_path, paired, hu):
    other = tmp_path / "other" / "imaging.nii.gz"
    other.parent.mkdir()
    hu[:, 10:] = -2000
    nifti.write_hu(other, hu, (3.0, 0.8, 0.7))
    before = np.array(store.volume(paired).noisy_hu)
    assert (store.volume(Case("other", other, paired.noisy)).noisy_hu[:, 10:] == -1000).all()
    np.testing.assert_array_equal(store.volume(paired).noisy_hu, before)


@pytest.mark.parametrize("place", [0, 40, 130, -1, -900])
def test_a_flipped_bit_in_a_recording_s_array_is_mended(store, paired, hu, noisy_hu, place):
    store.volume(paired)
    path = of_the_recording(store)
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)
    volume = store.volume(paired)
    np.testing.assert_array_equal(volume.hu, hu)
    np.testing.assert_array_equal(volume.noisy_hu, noisy_hu)


@pytest.mark.parametrize("pattern", ["*.npy", "*.json"])
def test_a_half_written_recording_is_completed(store, paired, noisy_hu, pattern):
    store.volume(paired)
    of_the_recording(store, pattern).unlink()
    np.testing.assert_array_equal(store.volume(paired).noisy_hu, noisy_hu)


def test_a_changed_recording_is_read_again(store, paired, noisy_hu):
    store.volume(paired)
    noisy_hu[0, 0, 0] += 1
    nifti.write_hu(paired.noisy, noisy_hu, (3.0, 0.8, 0.7), overwrite=True)
    np.testing.assert_array_equal(store.volume(paired).noisy_hu, noisy_hu)


def test_a_damaged_recording_is_refused_and_never_stored(store, paired):
    content = bytearray(paired.noisy.read_bytes())
    content[len(content) // 2] ^= 16
    paired.noisy.write_bytes(content)
    with pytest.raises(BadInput, match=r"quarter\.nii\.gz"):
        store.volume(paired)
    assert not [path for path in found(store, "*.npy") if "-" in path.stem]


def test_a_scan_is_not_its_own_recording(store, paired):
    paired.noisy.write_bytes(paired.path.read_bytes())
    with pytest.raises(BadInput, match=r"quarter\.nii\.gz: holds the voxels of imaging\.nii\.gz"):
        store.volume(paired)


def test_a_copy_in_another_datatype_is_no_recording(store, paired):
    image = nib.load(paired.path)
    nib.save(nib.Nifti1Image(image.get_fdata(), image.affine), paired.noisy)
    with pytest.raises(BadInput, match=r"quarter\.nii\.gz: holds the voxels of imaging\.nii\.gz"):
        store.volume(paired)


def outside(hu, value, noisy_value):
    """A clean scan and a recording with given values outside a square."""
    rng = np.random.default_rng(2)
    clean, noisy = hu.copy(), hu + rng.normal(0, 50, hu.shape).astype(np.int16)
    out = np.ones(hu.shape, bool)
    out[:, 4:-4, 3:-3] = False
    clean[out] = value
    noisy[out] = rng.normal(-1000, 50, int(out.sum())) if noisy_value is None else noisy_value
    return clean, noisy, out


def a_pair(folder, clean, noisy):
    folder.mkdir()
    for name, hu in (("imaging", clean), ("quarter", noisy)):
        nifti.write_hu(folder / f"{name}.nii.gz", hu.astype(np.int16), (3.0, 0.8, 0.7))
    return Case(folder.name, folder / "imaging.nii.gz", folder / "quarter.nii.gz")


@pytest.mark.parametrize("value", [-1000, -1024])
def test_measured_air_of_a_recording_stays_where_the_clean_scan_is_constant(
    store, tmp_path, hu, value
):
    clean, noisy, out = outside(hu, value, None)
    volume = store.volume(a_pair(tmp_path / "pair", clean, noisy))
    np.testing.assert_array_equal(volume.noisy_hu, noisy)
    assert (volume.hu[out] == -1000).all()
    assert not volume.padding(slice(None)).any()


@pytest.mark.parametrize(("value", "noisy_value"), [(-1024, -1024), (-2000, None), (-2000, -1024)])
def test_voxels_that_neither_scan_measured_become_air_in_both(
    store, tmp_path, hu, value, noisy_value
):
    clean, noisy, out = outside(hu, value, noisy_value)
    volume = store.volume(a_pair(tmp_path / "pair", clean, noisy))
    np.testing.assert_array_equal(volume.padding(slice(None)), out)
    assert (volume.noisy_hu[out] == -1000).all()
    np.testing.assert_array_equal(volume.noisy_hu[~out], noisy[~out])


def a_set(path, clean, noisy):
    """Pairs, all for training but the last."""
    both = {"gt": np.asarray(clean), "ns": np.asarray(noisy)}
    sides = {"train": slice(None, -1), "test": slice(-1, None)}
    with open(path, "wb") as file:
        np.savez(
            file, **{f"{s}_{k}": v[part] for s, part in sides.items() for k, v in both.items()}
        )
    return find_cases(path)


@pytest.fixture
def pairs(tmp_path, hu, noisy_hu):
    """17 pairs of (19, 13) whole numbers: 16 train, the last tests."""
    return a_set(tmp_path / "set.npz", hu, noisy_hu)


def test_the_pairs_of_a_set_are_stored_as_they_are_read(store, pairs, hu, noisy_hu):
    order = [16, *range(16)]  # by name: test before train
    for case, i in zip(pairs, order, strict=True):
        volume = store.volume(case)
        np.testing.assert_array_equal(volume.hu, hu[i : i + 1])
        np.testing.assert_array_equal(volume.noisy_hu, noisy_hu[i : i + 1])
        np.testing.assert_array_equal(volume.hu, case.open().read_hu()[0])
        assert volume.case == case.name
        assert volume.spacing_mm == (1.0, 1.0, 1.0)
        assert not any(volume.odd.values())


def test_pairs_are_mapped_into_memory_and_cannot_be_written(store, pairs):
    volume = store.volume(pairs[0])
    for array in (volume.hu, volume.noisy_hu):
        assert isinstance(array, np.memmap)
        assert array.dtype == np.int16
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0, 0] = 5


def calls(monkeypatch, owner, name):
    """Counts the calls of a function from now on."""
    function, counted = getattr(owner, name), []

    def counting(*arguments, **named):
        counted.append(arguments)
        return function(*arguments, **named)

    monkeypatch.setattr(owner, name, counting)
    return counted


def test_a_set_is_hashed_and_read_once_and_mapped_once_a_side(store, pairs, monkeypatch):
    hashed = calls(monkeypatch, digest, "sha256")
    read = calls(monkeypatch, Pairs, "read")
    opened = calls(monkeypatch, np, "load")
    mapped = calls(monkeypatch, array_cache, "mapped_array")
    volumes = [store.volume(case) for case in pairs]
    assert [len(hashed), len(read)] == [1, 2]
    assert [len(opened), len(mapped)] == [2, 2]
    assert np.shares_memory(volumes[1].hu.base, volumes[2].hu.base)


def test_a_second_store_reads_no_image_of_a_set(store, pairs, hu, noisy_hu, monkeypatch):
    store.volume(pairs[0])
    store.volume(pairs[1])
    hashed, read = calls(monkeypatch, digest, "sha256"), calls(monkeypatch, Pairs, "read")
    for case, i in zip(pairs, [16, *range(16)], strict=True):
        volume = Store(store.root).volume(case)
        np.testing.assert_array_equal(volume.hu, hu[i : i + 1])
        np.testing.assert_array_equal(volume.noisy_hu, noisy_hu[i : i + 1])
    assert hashed == read == []


@pytest.mark.parametrize("place", [1, 60, 128, 500, -1, -250])
def test_a_flipped_bit_in_a_set_s_array_is_mended(store, pairs, hu, noisy_hu, place):
    store.volume(pairs[1])
    path = only(store, "*-train.npy")
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)
    fresh = Store(store.root)
    for case, i in zip(pairs[1:], range(16), strict=True):
        np.testing.assert_array_equal(fresh.volume(case).hu, hu[i : i + 1])
        np.testing.assert_array_equal(fresh.volume(case).noisy_hu, noisy_hu[i : i + 1])


def test_a_changed_set_is_read_again_by_the_same_store(store, tmp_path, pairs, hu, noisy_hu):
    store.volume(pairs[0])
    (tmp_path / "set.npz").unlink()
    changed = a_set(tmp_path / "set.npz", hu + 1, noisy_hu)
    np.testing.assert_array_equal(store.volume(changed[0]).hu, hu[16:] + 1)


def test_an_interrupted_conversion_of_a_set_leaves_nothing_that_counts(
    store, pairs, hu, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(np.lib.format, "write_array_header_1_0", interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.volume(pairs[0])
    assert {path.suffix for path in (store.root / _LAYOUT).iterdir() if path.is_file()} == {".lock"}
    np.testing.assert_array_equal(store.volume(pairs[0]).hu, hu[16:])


def test_padding_of_whole_numbers_is_air_in_both_images_of_a_pair(store, tmp_path, hu, noisy_hu):
    hu[:, :6] = -2000
    for case in a_set(tmp_path / "ct.npz", hu, noisy_hu)[1:]:
        volume = store.volume(case)
        i = int(case.name[-5:])
        assert (volume.hu[0, :6] == -1000).all()
        assert (volume.noisy_hu[0, :6] == -1000).all()
        np.testing.assert_array_equal(volume.noisy_hu[0, 6:], noisy_hu[i, 6:])


def test_grey_values_have_no_padding(store, tmp_path):
    clean = np.random.default_rng(0).random((2, 9, 9)) - 0.5
    clean[:, :4, :4] = -0.5
    for case in a_set(tmp_path / "floats.npz", clean, clean - 0.1):
        volume = store.volume(case)
        assert (volume.hu[0, :4, :4] == -5000).all()
        assert (volume.noisy_hu[0, :4, :4] == -6000).all()


def test_pairs_are_identified_by_their_clean_images(store, tmp_path, hu, noisy_hu):
    hu[3], hu[5], hu[6] = hu[16], 0, 0
    one = {c.name: store.volume(c).sha256 for c in a_set(tmp_path / "a.npz", hu, noisy_hu)}
    assert one["train_00003"] == one["test_00000"]
    assert len(set(one.values())) == 16  # empty images are alike, and no leak
    other = {c.name: store.volume(c).sha256 for c in a_set(tmp_path / "b.npz", hu, noisy_hu + 1)}
    assert other == one


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"ENGINE_CACHE": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/respr-engine"),
        ({"HOME": "/c"}, "/c/.cache/respr-engine"),
        ({"ENGINE_CACHE": "", "XDG_CACHE_HOME": "", "HOME": "/c"}, "/c/.cache/respr-engine"),
        ({"ENGINE_CACHE": "~/a", "HOME": "/c"}, "/c/a"),
    ],
)
def test_the_store_lies_where_the_environment_says(monkeypatch, environment, expected):
    for name in ("ENGINE_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert default_root() == Path(expected)


@pytest.fixture
def homeless(monkeypatch):
    """A user of a container: no HOME, and no entry in the list of users."""

    def unknown(_):
        raise KeyError

    for name in ("ENGINE_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"ENGINE_CACHE": "~/a"}, None),
        ({"ENGINE_CACHE": "/a"}, Path("/a")),
        ({"XDG_CACHE_HOME": "/b"}, Path("/b/respr-engine")),
    ],
)
def test_without_a_home_the_environment_alone_names_the_store(
    homeless, monkeypatch, environment, expected
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert default_root() == expected


def test_without_a_folder_voxels_are_held_in_memory_with_one_warning(case, hu, tmp_path):
    told = []
    store = Store(None, told.append)
    for _ in range(2):
        np.testing.assert_array_equal(store.volume(case, scanned=True).hu, hu)
    assert told == ["cache: there is no home folder for it; the cache is read-only from here on"]
    Store(None, told.append, frozen=True)
    assert len(told) == 1


@pytest.mark.real_ct
def test_a_real_scan_is_stored_as_it_is_but_for_its_padding(real_ct, tmp_path):
    path = min(real_ct.glob("*/imaging.nii.gz"), key=lambda p: p.stat().st_size)
    hu = nifti.open_scan(path).read_hu()
    stored = Store(tmp_path).volume(Case("real", path)).hu
    changed = stored != hu
    assert (stored[changed] == -1000).all()
    assert (hu[changed] < -900).all()


# -- To be scanned ---------------------------------------------------------------------------------


def test_a_volume_to_be_scanned_tells_where_padding_was(store, tmp_path, hu):
    hu = hu.astype("f4")
    hu[:, :6, :] = -2000
    hu[3, 10, 5] = np.nan
    path = tmp_path / "scan.nii"
    nifti.write_hu(path, np.zeros(hu.shape, np.int16), (3.0, 0.8, 0.8))
    nifti.write_derived(nifti.open_scan(path), hu, tmp_path / "float.nii")
    case = Case("scan", tmp_path / "float.nii")
    volume = store.volume(case, scanned=True)
    for z in range(17):
        np.testing.assert_array_equal(volume.padding(z), (hu[z] == -2000) | np.isnan(hu[z]))
    plain = store.volume(case)
    np.testing.assert_array_equal(volume.hu, plain.hu)
    np.testing.assert_array_equal(volume.padding(slice(None)), plain.padding(slice(None)))
    assert plain.kept is None
    assert volume.kept.folder.is_relative_to(store.root)


def test_where_padding_was_is_read_once(store, case, monkeypatch):
    store.volume(case, scanned=True)
    converted = counted(monkeypatch)
    Store(store.root).volume(case, scanned=True)
    assert converted == []


def test_a_damaged_mask_of_padding_is_made_again(store, tmp_path, hu):
    hu[:, :6, :] = -2000
    nifti.write_hu(tmp_path / "scan.nii", hu, (3.0, 0.8, 0.8))
    case = Case("scan", tmp_path / "scan.nii")
    store.volume(case, scanned=True)
    (path,) = (store.root / _LAYOUT).glob("*-padding.npy")
    block = bytearray(path.read_bytes())
    block[-1] ^= 255
    path.write_bytes(block)
    assert not store.volume(case, scanned=True).padding(16)[6:].any()


# What is taken on trust


def test_arrays_read_with_other_options_are_separate(store, tmp_path):
    grey = np.arange(1200, dtype=np.int16).reshape(3, 20, 20)
    nifti.write_hu(tmp_path / "scan.nii", grey, (1.0, 1.0, 1.0))
    trusted = Case("scan", tmp_path / "scan.nii", trust=ReadOptions(hu=True))
    np.testing.assert_array_equal(store.volume(trusted).hu, grey)
    with pytest.raises(BadInput, match="not in Hounsfield units"):
        store.volume(Case("scan", tmp_path / "scan.nii"))


def test_each_volume_of_a_file_is_stored_as_its_own(store, tmp_path, hu):
    path = tmp_path / "scan.nii"
    path.write_bytes(content(np.stack([hu, hu[::-1]], axis=-1)))
    for k, expected in enumerate((hu, hu[::-1])):
        found = store.volume(Case("scan", path, trust=ReadOptions(volume=k)))
        np.testing.assert_array_equal(found.hu, expected)
