import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engine.checkpoints import checkpoint
from engine.diagnostics import doctor
from engine.diagnostics.doctor import CheckFailed
from volumes.nifti import Scan


def test_all_checks_pass_on_a_correct_machine(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "engine", "doctor", "--devices", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all checks passed" in done.stdout
    assert "FAILED" not in done.stdout
    assert "ended with the same bits" in done.stdout
    assert not list(tmp_path.iterdir())


def test_invalid_devices_are_refused_before_any_check(engine) -> None:
    code, _, said = engine("doctor", "--devices", "abacus")
    assert code == 2
    assert "--devices" in said


def test_one_failed_check_is_reported_with_the_others(engine, monkeypatch) -> None:
    def broken() -> str:
        raise RuntimeError("a kernel is missing\nand more")

    checks = [("sums", lambda: "right"), ("kernels", broken)]
    monkeypatch.setattr(doctor, "_checks", lambda folder, devices: checks)
    code, said, _ = engine("doctor")
    assert code == 1
    assert "failed: kernels" in said
    assert "RuntimeError: a kernel is missing" in said
    assert "and more" not in said


def test_a_step_with_other_losses_is_detected(cpu, monkeypatch) -> None:
    found = doctor.losses(cpu)
    assert np.allclose(found, doctor.LOSSES, rtol=1e-4, atol=0)
    monkeypatch.setattr(doctor, "LOSSES", tuple(1.01 * loss for loss in doctor.LOSSES))
    with pytest.raises(CheckFailed, match="differ by"):
        doctor.step(cpu)


def test_a_step_with_nan_losses_is_detected(cpu, monkeypatch) -> None:
    monkeypatch.setattr(doctor, "losses", lambda started: [float("nan")] * len(doctor.LOSSES))
    with pytest.raises(CheckFailed):
        doctor.step(cpu)


def test_a_seam_is_detected(cpu, monkeypatch) -> None:
    from engine.inference.predictor import Predictor

    whole = Predictor.volume

    def seamed(self, plan, noisy, prior):
        return whole(self, plan, noisy, prior) + (plan.count > 1) * np.float32(1e-4)

    monkeypatch.setattr(Predictor, "volume", seamed)
    with pytest.raises(CheckFailed, match="HU"):
        doctor.seams(cpu)


def test_a_reader_that_accepts_damage_is_detected(tmp_path: Path, monkeypatch) -> None:
    assert "the others read correctly" in doctor.damaged_scans(tmp_path)
    wrong = np.zeros((6, 32, 32), np.int16)
    (tmp_path / "scan.nii.gz").unlink()
    monkeypatch.setattr(Scan, "read_hu", lambda scan: wrong)
    with pytest.raises(CheckFailed, match="other voxels"):
        doctor.damaged_scans(tmp_path)


def test_a_resume_with_other_bits_is_detected(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(doctor, "_training", lambda data, run: _Done(run))
    prints = iter("ab")
    monkeypatch.setattr(checkpoint, "fingerprint", lambda path: next(prints))
    with pytest.raises(CheckFailed, match="other weights"):
        doctor.killed_training(tmp_path)


def test_a_failed_training_is_reported_with_its_message(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(doctor, "_training", lambda data, run: _Done(run, 7))
    with pytest.raises(CheckFailed, match="ended with 7: out of memory"):
        doctor.killed_training(tmp_path)


class _Done:
    """A finished training with a checkpoint."""

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


def test_a_full_disk_is_detected(tmp_path: Path, monkeypatch) -> None:
    assert "GiB" in doctor.free_disk([tmp_path / "not" / "there"])
    monkeypatch.setattr(doctor, "_LEAST_FREE_GIB", 1e9)
    with pytest.raises(CheckFailed, match=str(tmp_path)):
        doctor.free_disk([tmp_path])


def test_a_read_only_folder_is_detected(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(CheckFailed, match="not writable"):
        doctor.free_disk([tmp_path])
