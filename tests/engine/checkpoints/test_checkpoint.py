import errno
import hashlib
import io
import json
import math
import os
import shutil
import types
import zipfile

import numpy as np
import pytest

from engine.checkpoints import checkpoint
from engine.checkpoints.archive import ArrayHeader
from engine.checkpoints.checkpoint import Progress
from engine.errors import CannotWrite, Damaged, DiskFull, Mismatch

FILES = ("state.npz", "state.json", "MANIFEST.json")


def arrays(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "model/down1_a/kernel": rng.standard_normal((3, 3, 3, 1, 2)).astype(np.float32),
        "adam/applied": np.float32(seed),
        "loss_scale/since": np.int64(7),
        "model/empty": np.zeros((0, 4), np.float32),
        "model/odd": np.array([np.nan, -0.0, np.inf, 1e-45], np.float32),
    }


def headers():
    return {name: ArrayHeader(array.shape, array.dtype) for name, array in arrays().items()}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "checkpoints"


@pytest.fixture
def two(folder):
    """A folder with the steps 2 and 4."""
    for step in (2, 4):
        checkpoint.save(folder, arrays(step), Progress(step, 2, 0.5))
    return folder


@pytest.fixture
def warnings():
    return []


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# -- Saving and loading ----------------------------------------------------------------------------


def test_every_variable_comes_back_to_the_bit(folder):
    path = checkpoint.save(folder, arrays(), Progress(3))
    found = checkpoint.load(path)
    assert set(found) == set(arrays())
    for name, array in arrays().items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()


def test_progress_comes_back(folder):
    progress = Progress(1200, 800, 0.1 + 0.2)
    assert checkpoint.verified(checkpoint.save(folder, arrays(), progress)) == progress


def test_a_checkpoint_is_a_folder_of_three_files_named_by_its_step(folder):
    path = checkpoint.save(folder, arrays(), Progress(1200))
    assert path.name == "step-00001200"
    assert names(path) == sorted(FILES)


def test_steps_are_counted_in_the_order_of_numbers(folder):
    for step in (100_000_000, 2, 30):
        (folder / f"step-{step:08d}").mkdir(parents=True)
    (folder / "step-x").mkdir()
    (folder / "damaged-step-00000009").mkdir()
    assert checkpoint.steps(folder) == [2, 30, 100_000_000]


def test_a_folder_that_is_not_there_has_no_steps(folder):
    assert checkpoint.steps(folder) == []


def test_a_step_that_is_saved_again_is_replaced(folder):
    checkpoint.save(folder, arrays(1), Progress(3))
    path = checkpoint.save(folder, arrays(2), Progress(3))
    checkpoint.verified(path)
    assert checkpoint.load(path)["adam/applied"] == 2
    assert names(folder) == ["replaced-step-00000003", "step-00000003"]


def test_a_step_that_is_saved_again_with_the_same_bits_is_left_alone(folder):
    for _ in range(2):
        checkpoint.save(folder, arrays(1), Progress(3))
    assert names(folder) == ["step-00000003"]


def test_the_two_newest_and_the_best_remain(folder):
    for step in range(1, 8):
        checkpoint.save(folder, arrays(), Progress(step, min(step, 3), 0.5))
    assert checkpoint.steps(folder) == [3, 6, 7]


def test_without_a_best_the_two_newest_remain(folder):
    for step in range(1, 6):
        checkpoint.save(folder, arrays(), Progress(step))
    assert checkpoint.steps(folder) == [4, 5]


def test_loading_can_ask_for_the_names_it_expects(folder):
    path = checkpoint.save(folder, arrays(), Progress(3))
    assert set(checkpoint.load(path, headers())) == set(arrays())


@pytest.mark.parametrize(
    ("wanted", "differing"),
    [
        (lambda one: one | {"model/extra": one["model/odd"]}, "model/extra"),
        (lambda one: {n: h for n, h in one.items() if n != "adam/applied"}, "adam/applied"),
    ],
)
def test_other_names_are_refused_with_those_that_differ(folder, wanted, differing):
    path = checkpoint.save(folder, arrays(), Progress(3))
    with pytest.raises(Mismatch, match=f"other variables than this network: {differing}"):
        checkpoint.load(path, wanted(headers()))


@pytest.mark.parametrize(
    "header", [ArrayHeader((4, 4), np.dtype("f4")), ArrayHeader((4,), np.dtype("f8"))]
)
def test_another_shape_or_datatype_is_refused_before_it_is_read(folder, monkeypatch, header):
    path = checkpoint.save(folder, arrays(), Progress(3))
    monkeypatch.setattr("engine.checkpoints.archive.read_arrays", None)
    with pytest.raises(Mismatch, match="holds model/odd of another shape"):
        checkpoint.load(path, headers() | {"model/odd": header})


# -- Damage ----------------------------------------------------------------------------------------


def places(size):
    """Offsets all over a file: every one of a small file, some of a large one."""
    few = np.random.default_rng(0).integers(0, size, 60).tolist()
    return range(size) if size < 400 else sorted({*range(40), *few, *range(size - 40, size)})


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_anywhere_is_detected(folder, name):
    path = checkpoint.save(folder, arrays(), Progress(3, 2, 0.25))
    content = bytearray((path / name).read_bytes())
    for at in places(len(content)):
        bit = 1 << at % 8
        content[at] ^= bit
        (path / name).write_bytes(content)
        with pytest.raises(Mismatch, match="is damaged"):
            checkpoint.verified(path)
        content[at] ^= bit
    (path / name).write_bytes(content)
    assert checkpoint.verified(path) == Progress(3, 2, 0.25)


@pytest.mark.parametrize("name", FILES)
def test_behind_a_damaged_checkpoint_the_one_before_is_found(two, warnings, name):
    file = two / "step-00000004" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert checkpoint.newest(two, warnings.append) == Progress(2, 2, 0.5)


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_damage(two, warnings, name):
    file = two / "step-00000004" / name
    os.truncate(file, file.stat().st_size // 2)
    assert checkpoint.newest(two, warnings.append).step == 2


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_damage(two, warnings, name):
    (two / "step-00000004" / name).unlink()
    assert checkpoint.newest(two, warnings.append).step == 2


@pytest.mark.parametrize("text", ["", "[]", "{}", "5", '{"state.npz": 1, "state.json": 2}'])
def test_an_invalid_manifest_is_damage(two, warnings, text):
    (two / "step-00000004" / "MANIFEST.json").write_text(text)
    assert checkpoint.newest(two, warnings.append).step == 2


def test_a_damaged_checkpoint_is_renamed_with_a_warning(two, warnings):
    before = (two / "step-00000004" / "state.npz").read_bytes()
    (two / "step-00000004" / "state.json").write_text("{}")
    checkpoint.newest(two, warnings.append)
    assert names(two) == ["damaged-step-00000004", "step-00000002"]
    assert (two / "damaged-step-00000004" / "state.npz").read_bytes() == before
    assert len(warnings) == 1
    assert "step-00000004" in warnings[0]
    assert "state.json" in warnings[0]


def test_a_renamed_checkpoint_is_ignored(two, warnings):
    (two / "step-00000004" / "state.json").write_text("{}")
    checkpoint.newest(two, warnings.append)
    assert checkpoint.newest(two, warnings.append).step == 2
    assert len(warnings) == 1


def test_the_newest_intact_checkpoint_is_used_without_a_warning(two, warnings):
    assert checkpoint.newest(two, warnings.append).step == 4
    assert warnings == []
    assert names(two) == ["step-00000002", "step-00000004"]


def test_no_checkpoint_at_all_is_a_new_run(folder, warnings):
    assert checkpoint.newest(folder, warnings.append) is None


def test_a_folder_with_damaged_checkpoints_only_is_refused(two, warnings):
    for step in (2, 4):
        (two / f"step-{step:08d}" / "state.npz").write_bytes(b"")
    for _ in range(2):  # the second time, all have been renamed
        with pytest.raises(Mismatch, match="no intact checkpoint"):
            checkpoint.newest(two, warnings.append)
    assert len(warnings) == 2


def test_earlier_renamed_checkpoints_are_kept(two, warnings):
    for content in (b"first", b"second"):
        (two / "step-00000004" / "state.npz").write_bytes(content)
        checkpoint.newest(two, warnings.append)
        checkpoint.save(two, arrays(4), Progress(4, 2, 0.5))
    kept = [two / f"damaged-step-00000004{end}" / "state.npz" for end in ("", ".1")]
    assert [path.read_bytes() for path in kept] == [b"first", b"second"]


def test_a_checkpoint_named_as_another_step_is_damage(two, warnings):
    (two / "step-00000004").rename(two / "step-00000006")
    with pytest.raises(Damaged, match=r"state\.json is of step 4"):
        checkpoint.verified(two / "step-00000006")


@pytest.mark.parametrize("name", FILES)
def test_a_link_is_not_followed(two, tmp_path, warnings, name):
    file = two / "step-00000004" / name
    file.rename(tmp_path / name)
    file.symlink_to(tmp_path / name)
    assert checkpoint.newest(two, warnings.append).step == 2


def test_a_pipe_is_not_waited_for(two, warnings):
    (two / "step-00000004" / "state.npz").unlink()
    os.mkfifo(two / "step-00000004" / "state.npz")
    assert checkpoint.newest(two, warnings.append).step == 2


@pytest.mark.parametrize("code", [errno.EACCES, errno.EMFILE, errno.ESTALE])
def test_a_checkpoint_with_a_read_error_is_not_renamed(two, warnings, monkeypatch, code):
    def refused(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr("os.open", refused)
        with pytest.raises(Mismatch, match="cannot be read"):
            checkpoint.newest(two, warnings.append)
    assert names(two) == ["step-00000002", "step-00000004"]
    assert warnings == []


@pytest.mark.parametrize("name", ["state.json", "MANIFEST.json"])
def test_a_json_file_that_is_too_long_is_not_parsed(two, warnings, name):
    file = two / "step-00000004" / name
    file.write_bytes(file.read_bytes() + b" " * 2**20)
    assert checkpoint.newest(two, warnings.append).step == 2
    assert "longer than" in warnings[0]


def forged(path, member, content):
    """A checkpoint whose one member was replaced, and whose manifest agrees."""
    (path / member).write_bytes(content)
    manifest = json.loads((path / "MANIFEST.json").read_text())
    manifest[member] = hashlib.sha256(content).hexdigest()
    (path / "MANIFEST.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "state",
    [
        {"step": 4.0}, {"step": True}, {"step": "4"}, {"best_step": 5}, {"best_step": -1},
        {"best_mse": math.nan}, {"best_mse": -1.0}, {"best_mse": "0"}, {"recipe": 1}, {"more": 1},
    ],
)  # fmt: skip
def test_an_invalid_progress_is_damage(two, state):
    content = {"step": 4, "best_step": 2, "best_mse": 0.5, "recipe": None} | state
    forged(two / "step-00000004", "state.json", json.dumps(content).encode())
    with pytest.raises(Damaged):
        checkpoint.verified(two / "step-00000004")


def archived(**members):
    """An npz file of members that are given as bytes, or as arrays."""
    block = io.BytesIO()
    with zipfile.ZipFile(block, "w", members.pop("kind", zipfile.ZIP_STORED)) as file:
        for name, content in members.items():
            if isinstance(content, np.ndarray):
                array, content = content, io.BytesIO()
                np.save(content, array, allow_pickle=True)
                content = content.getvalue()
            file.writestr(name, content)
    return block.getvalue()


def huge():
    head = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": (2**40,)}
    np.lib.format.write_array_header_1_0(head, header)
    return head.getvalue() + bytes(16)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"PK", archived(**{"w.txt": b"text"}), archived(**{"w.npy": b"text"}),
        archived(**{"w.npy": huge()}), archived(**{"w.npy": np.array([{"an": "object"}])}),
        archived(**{"w.npy": np.zeros(10**6, np.float32)}, kind=zipfile.ZIP_DEFLATED),
    ],
    ids=["nothing", "a stub", "a text", "no array", "a claim", "an object", "compressed"],
)  # fmt: skip
def test_an_inconsistent_archive_is_damage_even_with_the_right_hash(two, content):
    forged(two / "step-00000004", "state.npz", content)
    with pytest.raises(Damaged):
        checkpoint.load(two / "step-00000004")


def test_two_intact_ones_remain_when_a_newer_one_is_damaged(two):
    (two / "step-00000004" / "state.npz").write_bytes(b"")
    checkpoint.save(two, arrays(), Progress(6, 2, 0.5))
    assert checkpoint.steps(two) == [2, 4, 6]
    checkpoint.save(two, arrays(), Progress(8))
    assert checkpoint.steps(two) == [2, 6, 8]  # 2 is the best of 6


def test_a_disk_that_stores_other_bytes_is_detected_before_older_ones_are_removed(two, monkeypatch):
    keep = io.BufferedWriter.write

    def corrupted(file):
        class Corrupted(io.BufferedWriter):
            def write(self, block):
                block = bytes(memoryview(block).cast("B"))
                return keep(self, bytes([block[0] ^ 1]) + block[1:] if block else block)

        return Corrupted(file)

    monkeypatch.setattr(
        "volumes.storage.atomic.open",
        lambda path, mode: corrupted(io.FileIO(path, mode)),
        raising=False,
    )
    with pytest.raises(CannotWrite, match="does not read back as it was written"):
        checkpoint.save(two, arrays(), Progress(6))
    assert names(two) == ["step-00000002", "step-00000004"]


@pytest.mark.parametrize(("free", "fits"), [(2.1, False), (2.3, True)])
def test_free_space_for_more_than_two_is_checked_first(two, monkeypatch, free, fits):
    size = sum(array.nbytes for array in arrays().values())
    room = os.statvfs(two)
    disk = types.SimpleNamespace(f_blocks=room.f_blocks, f_bavail=free * size, f_frsize=1)
    monkeypatch.setattr("os.statvfs", lambda _: disk)
    if fits:
        checkpoint.save(two, arrays(), Progress(6))
    else:
        with pytest.raises(DiskFull, match=r"and the disk has 0\.0 MiB left"):
            checkpoint.save(two, arrays(), Progress(6))
        assert names(two) == ["step-00000002", "step-00000004"]


def test_a_manifest_is_the_hash_of_each_file(folder):
    path = checkpoint.save(folder, arrays(), Progress(3))
    manifest = json.loads((path / "MANIFEST.json").read_text())
    assert manifest == {
        name: hashlib.sha256((path / name).read_bytes()).hexdigest()
        for name in ("state.npz", "state.json")
    }


# -- Writing that fails ----------------------------------------------------------------------------


def full_disk(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("broken", ["numpy.savez", "os.fsync", "os.rename", "os.mkdir"])
def test_a_write_that_fails_leaves_the_folder_as_it_was(two, monkeypatch, broken):
    with monkeypatch.context() as patch:
        patch.setattr(broken, full_disk)
        with pytest.raises(CannotWrite, match="No space left"):
            checkpoint.save(two, arrays(), Progress(6))
    assert names(two) == ["step-00000002", "step-00000004"]
    assert all(checkpoint.verified(path).step for path in two.iterdir())


def test_an_interrupt_while_writing_leaves_the_folder_as_it_was(two, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("numpy.savez", interrupted)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save(two, arrays(), Progress(6))
    assert names(two) == ["step-00000002", "step-00000004"]


def test_every_file_reaches_the_disk_before_the_folder_gets_its_name(folder, monkeypatch):
    order = []
    fsync, rename = os.fsync, os.rename
    monkeypatch.setattr(os, "fsync", lambda fd: (order.append("fsync"), fsync(fd)))
    monkeypatch.setattr(os, "rename", lambda a, b: (order.append("rename"), rename(a, b)))
    checkpoint.save(folder, arrays(), Progress(3))
    assert order[: order.index("rename")].count("fsync") >= 3
    assert order[-1] == "fsync"  # of the folder that now holds the new name


def test_a_place_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(CannotWrite):
        checkpoint.save(tmp_path / "checkpoints", arrays(), Progress(3))


# -- Fingerprints ----------------------------------------------------------------------------------


def fingerprint(folder, content):
    shutil.rmtree(folder, ignore_errors=True)
    return checkpoint.fingerprint(checkpoint.save(folder, content, Progress(3)))


@pytest.mark.parametrize("name", ["model/down1_a/kernel", "adam/applied", "loss_scale/since"])
def test_the_fingerprint_changes_with_any_variable(folder, name):
    changed = arrays()
    changed[name] = changed[name] + changed[name].dtype.type(1)
    assert fingerprint(folder, arrays()) != fingerprint(folder, changed)


def test_the_fingerprint_sees_the_last_bit(folder):
    changed = arrays()
    kernel = changed["model/down1_a/kernel"] = changed["model/down1_a/kernel"].copy()
    kernel.flat[0] = np.nextafter(kernel.flat[0], np.float32(9))
    assert fingerprint(folder, arrays()) != fingerprint(folder, changed)


def test_the_fingerprint_does_not_depend_on_the_order_of_insertion(folder):
    turned = dict(reversed(arrays().items()))
    assert fingerprint(folder, arrays()) == fingerprint(folder, turned)


def test_the_fingerprint_does_not_depend_on_the_layout_in_memory(folder):
    kernel = arrays()["model/down1_a/kernel"]
    turned = arrays() | {"model/down1_a/kernel": np.asfortranarray(kernel)}
    assert fingerprint(folder, arrays()) == fingerprint(folder, turned)


def test_the_fingerprint_is_that_of_the_contract(folder):
    path = checkpoint.save(folder, arrays(), Progress(3))
    block = b"".join(array.tobytes() for _, array in sorted(arrays().items()))
    assert checkpoint.fingerprint(path) == hashlib.sha256(block).hexdigest()
