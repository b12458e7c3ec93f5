import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.engine.tiny import tiny, untrained


@pytest.fixture
def scans(tmp_path, phantom_hu):
    from volumes import nifti

    paths = [tmp_path / "one.nii.gz", tmp_path / "two.nii.gz"]
    for path in paths:
        nifti.write_hu(path, phantom_hu, (3.0, 0.8, 0.7))
    return paths


def test_one_picture_is_not_drawn_for_several_scans(engine, unet_run, scans, tmp_path):
    picture = tmp_path / "picture.png"
    code, _, err = engine("denoise", *scans, "-m", unet_run, "--preview", picture)
    assert code == 2
    assert "one picture for 2 scans" in err
    assert not list(tmp_path.glob("*_denoised*"))


def test_an_existing_picture_is_refused_before_anything_is_written(
    engine, unet_run, scans, tmp_path
):
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"somebody's")
    code, _, err = engine("denoise", scans[0], "-m", unet_run, "--preview", picture)
    assert code == 4
    assert str(picture) in err
    assert picture.read_bytes() == b"somebody's"
    assert not list(tmp_path.glob("*_denoised*"))


@pytest.mark.parametrize("command", ["denoise", "degrade"])
def test_another_program_s_sidecar_is_not_replaced(engine, unet_run, scans, tmp_path, command):
    output = tmp_path / "out.nii.gz"
    sidecar = tmp_path / "out.json"
    sidecar.write_text("{}")
    more = ("-m", unet_run) if command == "denoise" else ("--as", "gaussian:0.1")
    code, _, err = engine(command, scans[0], "-o", output, *more)
    assert code == 4
    assert str(sidecar) in err
    assert sidecar.read_text() == "{}"
    assert not output.exists()


def test_a_network_that_gives_no_numbers_gives_no_scan(engine, cpu, scans, tmp_path):
    def broken(arrays):
        return {name: array * np.nan for name, array in arrays.items()}

    run = untrained(tmp_path / "run", tiny(), cpu, broken)
    code, _, err = engine("denoise", scans[0], "-m", run.folder)
    assert code == 6
    assert "not finite" in err
    assert not list(tmp_path.glob("*_denoised*"))


def test_a_second_scan_is_refused_before_tensorflow_is_imported(
    unet_run: Path, scans: list[Path]
) -> None:
    words = ["denoise", str(scans[0]), "-m", str(unet_run), "--prior", str(scans[1])]
    program = (
        "import sys; from engine.cli import run; code = run(sys.argv[1:]); "
        "print(code, 'tensorflow' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["2", "False"]
    assert "sees no prior" in done.stderr


def test_scores_that_json_has_no_word_for_become_null(tmp_path):
    from engine.journal import Metrics

    metrics = Metrics(tmp_path / "metrics.jsonl", 0)
    metrics.row(step=1, mean={"ssim": float("nan"), "psnr_db": float("inf"), "mse": 0.5})
    metrics.close()
    row = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=pytest.fail)
    assert row["mean"] == {"ssim": None, "psnr_db": None, "mse": 0.5}


def test_what_a_killed_process_left_half_written_is_swept_away(tmp_path):
    from engine import checkpoint

    left = tmp_path / ".step-00000005.123.tmp"
    left.mkdir()
    (left / "state.npz").write_bytes(b"half")
    whole = tmp_path / "step-00000004"
    whole.mkdir()
    checkpoint.sweep(tmp_path)
    assert not left.exists()
    assert whole.exists()


def test_a_damaged_scan_does_not_keep_the_good_ones_from_being_denoised(
    engine, unet_run, scans, tmp_path
):
    block = scans[0].read_bytes()
    scans[0].write_bytes(block[: len(block) // 2])
    code, _, err = engine("denoise", *scans, "-m", unet_run)
    assert code == 3
    assert str(scans[0]) in err
    assert "1 of 2 scans: could not be denoised" in err
    made = sorted(path.name for path in tmp_path.glob("*_denoised*"))
    assert made == ["two_denoised.json", "two_denoised.nii.gz"]


def test_a_scan_that_breaks_while_it_is_denoised_leaves_nothing_and_stops_no_other(
    engine, unet_run, scans, tmp_path, monkeypatch
):
    from volumes.nifti import Scan

    whole = Scan.verify

    def verify_then_vanish(scan):
        whole(scan)
        if scan.path == scans[0]:
            scan.path.unlink()

    monkeypatch.setattr(Scan, "verify", verify_then_vanish)
    code, _, err = engine("denoise", *scans, "-m", unet_run)
    assert code == 3
    assert "cannot be read" in err
    made = sorted(path.name for path in tmp_path.glob("*_denoised*"))
    assert made == ["two_denoised.json", "two_denoised.nii.gz"]


def test_several_scans_that_are_all_bad_are_each_told(engine, unet_run, scans, tmp_path):
    for scan in scans:
        scan.write_bytes(b"<html>")
    code, out, err = engine("denoise", *scans, "-m", unet_run, "-q")
    assert (code, out) == (3, "")
    assert [str(scan) in err for scan in scans] == [True, True]
    assert "2 of 2 scans" in err


def test_a_scan_that_changes_while_it_is_read_is_refused(engine, unet_run, scans, monkeypatch):
    from volumes.nifti import Scan

    whole = Scan.read

    def read_and_change(scan):
        stored = whole(scan)
        scan.path.write_bytes(scan.path.read_bytes() + b"more")
        return stored

    monkeypatch.setattr(Scan, "read", read_and_change)
    code, _, err = engine("denoise", scans[0], "-m", unet_run)
    assert code == 3
    assert "changed while it was read" in err


def test_a_plan_makes_no_folder(engine, unet_run, scans, tmp_path):
    assert engine("denoise", scans[0], "-m", unet_run, "--plan", "-o", tmp_path / "new")[0] == 0
    assert not (tmp_path / "new").exists()


def test_one_absurd_voxel_spoils_no_other(cpu, tmp_path, phantom_hu):
    from engine.denoise import Request, denoise
    from engine.model import open_model
    from tests.engine.tiny import scan_file
    from volumes import nifti

    run = untrained(tmp_path / "run", tiny("unet3d", "network.levels=1"), cpu)
    model = open_model(run)
    found = []
    for value in (-1500.0, -3.4e38):
        stored = phantom_hu.astype("<f4")
        stored[5, 20, 20] = value
        scan = nifti.open_scan(scan_file(tmp_path / "scan.nii", stored))
        done = denoise(scan, model, model.estimator(), Request(), lambda _: None)
        found.append(np.delete(scan.canonical(done.after).ravel(), (5 * 64 + 20) * 64 + 20))
    floor_hu = 1400 * (6 * 0.1 - 500 / 1400)  # how much lower the network sees the second one
    assert np.abs(found[1] - found[0]).max() < floor_hu


def test_fewer_steps_than_are_done_are_refused(engine, trained, dataset):
    from tests.engine.tiny import shrinking

    words = [word for word in shrinking() if not word.startswith("steps")]
    code, _, err = engine(
        "fit", "unet3d", *words, "--steps", "2", "--data", dataset, "--run", trained, "-q"
    )
    assert code == 5
    assert "4 steps already" in err


def test_a_request_to_stop_is_heeded_before_the_first_step(dataset, tmp_path, monkeypatch):
    from engine import fit as fitting
    from engine.interrupt import Stop
    from engine.journal import Terminal
    from engine.recipe import find
    from engine.refusals import Interrupted
    from engine.run import Run

    monkeypatch.setattr(Stop, "asked", "SIGTERM", raising=False)
    monkeypatch.setattr(Stop, "__init__", lambda self: None)
    run = Run(tmp_path / "run")
    with pytest.raises(Interrupted, match="before its first step"):
        fitting.fit(
            tiny(), find("unet3d"), dataset, run, fitting.Machine("cpu"), Terminal(quiet=True)
        )
    assert not (run.folder / "recipe.json").exists()


def test_the_best_of_a_checkpoint_that_remains_remains_too(tmp_path):
    from engine import checkpoint
    from engine.checkpoint import Progress

    arrays = {"a": np.zeros(2)}
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, arrays, Progress(step, 1, 0.5))
    checkpoint.save(tmp_path, arrays, Progress(4, 4, 0.1))
    assert checkpoint.steps(tmp_path) == [1, 3, 4]


def test_a_refusal_waits_for_no_library_that_is_slow_to_import(unet_run, tmp_path):
    bad = tmp_path / "bad.nii.gz"
    bad.write_text("no scan")
    program = (
        "import sys; from engine.cli import run; code = run(sys.argv[1:]); "
        "print(code, {'tensorflow', 'scipy.ndimage', 'matplotlib'} & set(sys.modules))"
    )
    words = ["denoise", str(bad), "-m", str(unet_run)]
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=True
    )
    assert done.stdout.split(maxsplit=1) == ["3", "set()\n"]
