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
