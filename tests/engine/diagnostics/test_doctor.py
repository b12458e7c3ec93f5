import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engine.checkpoints import checkpoint
from engine.diagnostics import doctor
from engine.diagnostics.doctor import Unwell
from volumes.nifti import Scan


def test_a_machine_on_which_all_tests_pass_is_well(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "engine", "doctor", "--devices", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all is well" in done.stdout
    assert "NOT WELL" not in done.stdout
    assert "ended with the same bits" in done.stdout
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_meant_is_refused_before_anything_is_done(engine) -> None:
    code, _, said = engine("doctor", "--devices", "abacus")
    assert code == 2
    assert "--devices" in said


def test_one_check_that_fails_is_told_beside_those_that_do_not(engine, monkeypatch) -> None:
    def broken() -> str:
        raise RuntimeError("a kernel is missing\nand more")

    checks = [("sums", lambda: "right"), ("kernels", broken)]
    monkeypatch.setattr(doctor, "_checks", lambda folder, devices: checks)
    code, said, _ = engine("doctor")
    assert code == 1
    assert "not well: kernels" in said
    assert "RuntimeError: a kernel is missing" in said
    assert "and more" not in said


def test_a_step_that_gives_other_losses_is_noticed(cpu, monkeypatch) -> None:
    found = doctor.losses(cpu)
    assert np.allclose(found, doctor.LOSSES, rtol=1e-4, atol=0)
    monkeypatch.setattr(doctor, "LOSSES", tuple(1.01 * loss for loss in doctor.LOSSES))
    with pytest.raises(Unwell, match="differ by"):
        doctor.step(cpu)


def test_a_step_that_gives_no_number_is_noticed(cpu, monkeypatch) -> None:
    monkeypatch.setattr(doctor, "losses", lambda started: [float("nan")] * len(doctor.LOSSES))
    with pytest.raises(Unwell):
        doctor.step(cpu)


def test_a_seam_is_noticed(cpu, monkeypatch) -> None:
    from engine.inference.predictor import Predictor

    whole = Predictor.volume

    def seamed(self, plan, noisy, prior):
        return whole(self, plan, noisy, prior) + (plan.count > 1) * np.float32(1e-4)

    monkeypatch.setattr(Predictor, "volume", seamed)
    with pytest.raises(Unwell, match="HU"):
        doctor.seams(cpu)


def test_a_reader_that_lets_damage_through_is_noticed(tmp_path: Path, monkeypatch) -> None:
    assert "none read wrongly" in doctor.damaged_scans(tmp_path)
    wrong = np.zeros((6, 32, 32), np.int16)
    (tmp_path / "scan.nii.gz").unlink()
    monkeypatch.setattr(Scan, "read_hu", lambda scan: (wrong, 0))
    with pytest.raises(Unwell, match="other voxels"):
        doctor.damaged_scans(tmp_path)


def test_a_resume_with_other_bits_is_noticed(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(doctor, "_training", lambda data, run: _Done(run))
    prints = iter("ab")
    monkeypatch.setattr(checkpoint, "fingerprint", lambda path: next(prints))
    with pytest.raises(Unwell, match="other weights"):
        doctor.killed_training(tmp_path)


def test_a_training_that_fails_is_told_in_its_own_words(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(doctor, "_training", lambda data, run: _Done(run, 7))
    with pytest.raises(Unwell, match="ended with 7: out of memory"):
        doctor.killed_training(tmp_path)


class _Done:
    """A training that is over, with a checkpoint."""

    def __init__(self, run, returncode: int = 0) -> None:
        from engine.checkpoints.checkpoint import Progress

        checkpoint.save(run.checkpoints, {"a": np.zeros(2)}, Progress(3))
        self.returncode = returncode

    def poll(self) -> int:
        return self.returncode

    def kill(self) -> None:
        pass

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        return "", "first\nout of memory\n"


def test_a_full_disk_is_noticed(tmp_path: Path, monkeypatch) -> None:
    assert "GiB" in doctor.free_disk([tmp_path / "not" / "there"])
    monkeypatch.setattr(doctor, "_LEAST_FREE_GIB", 1e9)
    with pytest.raises(Unwell, match=str(tmp_path)):
        doctor.free_disk([tmp_path])


def test_a_folder_that_takes_nothing_is_noticed(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(Unwell, match="not to be written"):
        doctor.free_disk([tmp_path])
