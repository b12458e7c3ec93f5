import errno
import os

import numpy as np
import pytest

from engine.denoising.denoise import Denoised
from engine.denoising.writer import write
from engine.errors import CannotWrite
from tests.engine.tiny import scan_file
from tests.gates.disk import Disk
from volumes import nifti


@pytest.fixture
def denoised(tmp_path, phantom_hu):
    scan = nifti.open_scan(scan_file(tmp_path / "scan.nii.gz", phantom_hu))
    return Denoised(scan, scan.read(), scan.read(), {"notice": ""})


def test_no_file_has_its_name_before_all_are_on_the_disk_and_the_scan_gets_it_last(
    denoised, tmp_path
):
    out = tmp_path / "out"
    out.mkdir()
    disk = Disk(out)
    with disk.watched():
        written = write(denoised, out / "x_denoised.nii.gz", residual=True, overwrite=False)
    renamed = [i for i, done in enumerate(disk.done) if done.kind == "rename"]
    names = ["x_denoised.json", "x_residual.nii.gz", "x_denoised.nii.gz"]
    assert [disk.done[i].to.name for i in renamed] == names
    assert "write" not in {done.kind for done in disk.done[renamed[0] :]}
    synced = {done.path for done in disk.done[: renamed[0]] if done.kind == "fsync"}
    assert synced == {disk.done[i].path for i in renamed}
    assert [path.name for path in written] == names[::-1]


@pytest.mark.parametrize("number", range(3))
def test_if_a_file_cannot_get_its_name_none_keeps_it(denoised, tmp_path, monkeypatch, number):
    left, rename = [number], os.replace

    def replace(*paths):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(*paths)

    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(CannotWrite):
        write(denoised, out / "x_denoised.nii.gz", residual=True, overwrite=False)
    assert not list(out.iterdir())


def test_a_full_disk_replaces_nothing(denoised, tmp_path, monkeypatch):
    path = tmp_path / "x_denoised.nii.gz"
    write(denoised, path, residual=False, overwrite=False)
    before = {each.name: each.read_bytes() for each in tmp_path.glob("x_*")}

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    other = Denoised(denoised.scan, denoised.before, np.zeros_like(denoised.after), {})
    with pytest.raises(CannotWrite, match="No space left"):
        write(other, path, residual=True, overwrite=True)
    assert {each.name: each.read_bytes() for each in tmp_path.glob("x_*")} == before
