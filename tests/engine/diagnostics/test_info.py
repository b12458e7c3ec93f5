import json
import re
from pathlib import Path

import numpy as np
import pytest

from engine.checkpoints import checkpoint
from engine.diagnostics.info import describe
from engine.diagnostics.run_scores import score_rows
from engine.errors import BadInput, Mismatch
from engine.runs.run import Run
from tests.engine.tiny import scan_file, tiny, untrained
from volumes import nifti, random_draws


def rows(path):
    return dict(describe(path).rows)


@pytest.fixture
def scan(tmp_path):
    """A scan from -49 to 50 HU beside padding, stored as RAS with an intercept."""
    stored = np.full((4, 10, 10), 0, "<u2")
    stored[2] = np.arange(2025, 2125).reshape(10, 10)
    return scan_file(tmp_path / "scan.nii.gz", stored, "RAS", inter=-2074.0)


@pytest.fixture
def noisy_file(tmp_path):
    """Tissue of 40 HU beside air, with white noise of 20 HU."""
    hu = np.full((3, 96, 96), 40.0)
    hu[:, :40] = -1000
    hu += 20 * random_draws.rng(0, "noisy file").standard_normal(hu.shape)
    nifti.write_hu(tmp_path / "noisy.nii.gz", np.rint(hu).astype(np.int16), (3.0, 0.8, 0.8))
    return tmp_path / "noisy.nii.gz"


def test_a_scan_is_described_in_canonical_order(scan):
    told = rows(scan)
    assert told["shape (Z, Y, X)"] == "4 x 10 x 10"
    assert told["spacing (Z, Y, X)"] == "3 x 0.8 x 0.7 mm"
    assert told["axes as stored"] == "RAS 10 x 10 x 4"
    assert told["datatype"] == "uint16, slope 1, intercept -2074"


def test_padding_is_left_out_of_the_range(scan):
    told = rows(scan)
    assert told["HU"] == "-49 to 50"
    assert told["padding"] == "75.0% of the voxels"


def test_values_that_are_no_whole_numbers_are_rounded_for_the_reader(tmp_path):
    hu = np.linspace(-1032.5596923828125, 1504.25, 256).reshape(4, 8, 8)
    assert rows(scan_file(tmp_path / "scan.nii", hu.astype("<f4")))["HU"] == "-1032.56 to 1504.25"


def test_a_scan_of_padding_alone_has_no_range(tmp_path):
    path = scan_file(tmp_path / "scan.nii", np.full((2, 8, 8), -3000, "<i2"))
    assert rows(path)["HU"] == "none"


def test_a_file_that_is_no_scan_is_refused(tmp_path):
    path = tmp_path / "notes.nii"
    path.write_text("not a scan")
    with pytest.raises(BadInput):
        describe(path)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(Mismatch):
        describe(tmp_path)


def test_outputs_that_are_no_cases_of_a_folder_are_named(engine, unet_run, scan):
    words = ("-m", unet_run, "-q", "--preview")
    assert engine("denoise", scan, *words, scan.with_name("look.png"))[0] == 0
    other = scan.with_name("less_noise.nii.gz")
    assert engine("denoise", scan, *words[:3], "-o", other)[0] == 0
    told = rows(scan.parent)
    assert told["cases"] == "1: scan"
    assert told["outputs, not read"] == "2: less_noise.nii.gz, scan_denoised.nii.gz"
    scan.unlink()
    with pytest.raises(BadInput, match="holds no scan, only 2 outputs of this program such as le"):
        describe(scan.parent)


def test_a_misspelled_network_is_refused_with_the_one_that_was_meant():
    with pytest.raises(BadInput, match=r"Did you mean ct_denoiser\?"):
        describe(Path("ct_denoizer"))


def test_info_shows_the_step_and_the_fingerprint_of_the_last_checkpoint(trained):
    told = rows(trained)
    assert told["step"] == "4 of 4"
    last = Run(trained).checkpoint("last")
    assert told["fingerprint"] == checkpoint.fingerprint(last)
    assert told["network"] == "UNet3D(width=2, levels=2)"
    assert told["precision"] == "float32"


def test_info_shows_the_scores_that_the_log_showed_for_the_best_step(trained):
    told = rows(trained)
    best = checkpoint.verified(Run(trained).checkpoint("last")).best_step
    assert told["best"] == told["validated at"] == f"step {best}"
    logged = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    noisy, network = (
        next(row["mean"]["psnr_db"] for row in reversed(logged) if row.get("method") == method)
        for method in ("noisy", "network")
    )
    assert told["validation"].startswith(f"PSNR {network:.2f} dB (noisy {noisy:.2f}), SSIM ")


def test_info_shows_the_scores_of_each_level_beside_those_of_noise_and_prior(tmp_path):
    run = Run(tmp_path)
    zeros = {"ssim": 0.5, "relative_l2_percent": 1.0, "rmse_hu": 9.0}
    scored = [(0, "noisy", 20), (0, "prior", 25), (2, "network", 32), (4, "network", 31)]
    lines = [
        {"step": step, "method": method, "mean": {"psnr_db": psnr + more, **zeros}, **level}
        for step, method, psnr in scored
        for level, more in (({"level": "5%"}, 3), ({"level": "10%"}, 0), ({}, 1))
    ]
    run.metrics.write_text("\n".join(map(json.dumps, lines)) + "\n")
    told = dict(score_rows(run, 2))
    assert told["validation at 5%"].startswith("PSNR 35.00 dB (noisy 23.00, prior 28.00), SSIM 0.5")
    assert told["validation at 10%"].startswith("PSNR 32.00 dB (noisy 20.00, prior 25.00)")
    assert told["validation, mean of levels"].startswith("PSNR 33.00 dB (noisy 21.00, prior 26.00)")
    assert told["validated at"] == "step 2"
    assert dict(score_rows(run, None))["validation at 10%"].startswith("PSNR 31.00 dB")


def test_info_shows_that_a_run_has_no_checkpoint(tmp_path, cpu):
    run = untrained(tmp_path / "run", tiny(), cpu)
    run.checkpoints.rename(tmp_path / "gone")
    assert rows(run.folder)["step"] == "no checkpoint yet"


@pytest.mark.parametrize("torn", ['{"step": 5, "met', "[]\n", "\0\0"])
def test_a_run_that_is_being_written_can_be_looked_at(tmp_path, cpu, torn):
    run = untrained(tmp_path / "run", tiny(), cpu)
    mean = {"psnr_db": 30.0, "ssim": 0.9, "relative_l2_percent": 3.0, "rmse_hu": 44.0}
    row = json.dumps({"step": 4, "method": "network", "mean": mean})
    run.metrics.write_text(f"{row}\n{torn}")
    assert "PSNR 30.00 dB" in rows(run.folder)["validation"]


def test_a_damaged_run_is_refused(tmp_path, cpu):
    run = untrained(tmp_path / "run", tiny(), cpu)
    (run.checkpoints / "step-00000001" / "state.json").write_text("{}")
    with pytest.raises(Mismatch, match="is damaged"):
        describe(run.folder)


def test_info_shows_the_model_of_a_denoised_scan(engine, unet_run, scan):
    assert engine("denoise", scan, "-m", unet_run)[0] == 0
    told = rows(scan.with_name("scan_denoised.nii.gz"))
    assert told["denoised by"] == "UNet3D at step 1"
    assert told["model"] == checkpoint.fingerprint(Run(unet_run).checkpoint("last"))
    assert told["strength"] == "1"
    assert told["precision"] == "float32"
    assert told["voxels"] == "total 400, above window 0, changed 100, saturated 0, padding 300"
    assert re.match(r"mean \S+, std \S+, p0\.1 \S+, ", told["change in HU"])
    assert "not a medical device" in told["notice"]


def test_info_shows_the_noise_of_a_degraded_scan(engine, scan):
    assert engine("degrade", scan, "--as", "gaussian:0.1", "--seed", "4")[0] == 0
    told = rows(scan.with_name("scan_gaussian-0.1.nii.gz"))
    assert told["degradation"] == "kind gaussian, sigma 0.1"
    assert told["sigma HU"] == "140"
    assert told["warnings"] == "none"
    assert told["seed"] == "4"


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "5", '{"model": 3}', '{"model": {}}', "\xff"])
def test_a_foreign_file_beside_a_scan_does_no_harm(scan, text):
    alone = describe(scan).rows
    scan.with_name("scan.json").write_bytes(text.encode("latin-1"))
    assert describe(scan).rows[: len(alone)] == alone


def test_the_command_prints_names_and_values(engine, scan):
    code, out, err = engine("info", scan)
    assert (code, err) == (0, "")
    assert f"scan               {scan}" in out
    assert "4 x 10 x 10" in out


def test_the_command_ends_with_5_on_a_folder_that_is_no_run(engine, tmp_path):
    assert engine("info", tmp_path)[0] == 5


def test_the_command_ends_with_3_on_a_file_that_is_not_there(engine, tmp_path):
    assert engine("info", tmp_path / "none.nii.gz")[0] == 3


def test_the_noise_of_a_scan_is_described(engine, noisy_file):
    told = dict(describe(noisy_file, noise=True).rows)
    assert float(told["noise level"].split()[0]) == pytest.approx(20, rel=0.05)
    assert "1.4% of the window" in told["noise level"]
    assert told["noise, fat"] == "not measured: no uniform region"
    assert told["noise colour"].startswith("white")
    assert told["network for it"] == "gaussian_denoiser"
    assert engine("info", noisy_file, "--noise")[1].count("\n") == len(told)


def test_the_noise_of_a_scan_is_json(engine, noisy_file):
    code, out, err = engine("info", noisy_file, "--noise", "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert told["shape (Z, Y, X)"] == "3 x 96 x 96"
    assert told["noise"]["sigma_hu"] == pytest.approx(20, rel=0.1)
    assert told["noise"]["tissues"]["fat"] == {"sigma_hu": None, "reason": "no uniform region"}
    power = told["noise"]["noise_power"]
    assert len(power["frequency_per_mm"]) == len(power["power_hu2_mm2"]) == 8
    assert "noise" not in json.loads(engine("info", noisy_file, "--json")[1])


def test_a_folder_has_no_noise(engine, tmp_path, trained):
    for folder in (tmp_path, trained):
        code, _, err = engine("info", folder, "--noise")
        assert (code, err.count("\n")) == (2, 1)


def test_all_warnings_stand_in_json(engine, tmp_path):
    stored = np.full((2, 16, 16), 900, "<i2")
    stored[:, 8:] = 40 * np.arange(128).reshape(8, 16)
    path = scan_file(tmp_path / "scan.nii", stored, "RAS")
    told = json.loads(engine("info", path, "--noise", "--json")[1])
    assert isinstance(told["warning"], list)
    assert set(told["noise"]["tissues"]) == {"soft_tissue", "fat", "air"}
    assert told["noise"]["colour"] is None
