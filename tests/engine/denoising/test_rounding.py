"""`engine denoise --precision` and `--xla`: what is computed, measured, told and repeated."""

import json

import numpy as np
import pytest

from engine.denoising import rounding, sidecar
from engine.denoising.rounding import Rounding
from engine.inference import tiling
from tests.engine.fresh import fresh
from tests.engine.tiny import content, scan_file, tiny, untrained, voxels

SHAPE = (21, 18, 20)
LOWER = ("bfloat16", "float16")


@pytest.fixture
def scan(tmp_path):
    stored = np.random.default_rng(0).integers(-400, 300, SHAPE).astype("<i2")
    stored[:, :4] = -2048
    return scan_file(tmp_path / "scan.nii", stored)


@pytest.fixture
def floats(tmp_path):
    """A scan whose datatype hides no difference."""
    stored = np.random.default_rng(0).integers(-400, 300, SHAPE).astype("<f4")
    return scan_file(tmp_path / "floats.nii", stored)


@pytest.fixture
def denoised(engine, unet_run):
    """Denoises: (voxels, sidecar, stderr)."""

    def call(scan, *words, run=unet_run):
        out = scan.with_name("out.nii")
        code, _, err = engine("denoise", scan, "-m", run, "-o", out, "--overwrite", *words)
        assert code == 0, err
        return voxels(out), json.loads(out.with_suffix(".json").read_text()), err

    return call


# -- Measured and told -----------------------------------------------------------------------------


@pytest.mark.parametrize("precision", LOWER)
def test_the_sidecar_tells_the_difference_from_float32(denoised, floats, precision):
    exact, about, _ = denoised(floats)
    assert about["precision"] == "float32"
    found, about, err = denoised(floats, "--precision", precision)
    told = about["precision"]
    first, last = told["slices"]
    assert (told["compute"], first, last) == (precision, 6, 13)
    apart = np.abs(found - exact)[first : last + 1]
    assert 0 < told["rmse_difference_hu"] < told["largest_difference_hu"]
    # Slices alone have borders that the scan does not have: as large, not the same.
    assert told["largest_difference_hu"] == pytest.approx(apart.max(), rel=0.5)
    assert told["rmse_difference_hu"] == pytest.approx(np.sqrt(np.mean(apart**2)), rel=0.3)
    line = f"floats: {precision} changes the estimate of float32 by "
    assert sum(said.startswith(line) for said in err.splitlines()) == 1


@pytest.mark.parametrize("words", [("--precision", "auto"), ("--precision", "float32"), ()])
def test_float32_is_what_it_was_to_the_bit(denoised, scan, words):
    import keras
    import tensorflow as tf

    found, about, err = denoised(scan, "--reproducible", *words)
    again, plain, _ = denoised(scan, "--reproducible", "--devices", "cpu", "--xla", "off")
    np.testing.assert_array_equal(found, again)
    assert about == plain
    assert about["precision"] == "float32"
    assert "xla" not in about
    assert "changes the estimate" not in err
    assert (tf.__version__, keras.__version__) == tuple(
        about["versions"][name] for name in ("tensorflow", "keras")
    )


def test_info_tells_the_difference(engine, denoised, scan):
    _, about, _ = denoised(scan, "--precision", "bfloat16")
    told = about["precision"]
    _, said, _ = engine("info", scan.with_name("out.nii"))
    (line,) = (line for line in said.splitlines() if line.startswith("precision"))
    rmse, largest = told["rmse_difference_hu"], told["largest_difference_hu"]
    assert line.endswith(f"bfloat16, {rmse:g} HU (RMSE) from float32, at most {largest:g} HU")


def test_padding_does_not_count(denoised, scan):
    _, about, _ = denoised(scan, "--precision", "bfloat16")
    padding = scan_file(scan.with_name("padding.nii"), np.full(SHAPE, -2048, "<i2"))
    _, nothing, _ = denoised(padding, "--precision", "bfloat16")
    assert nothing["precision"]["largest_difference_hu"] == 0
    assert about["precision"]["largest_difference_hu"] > 0


def test_a_large_difference_is_a_warning_on_stderr_and_in_the_sidecar(
    denoised, floats, monkeypatch
):
    monkeypatch.setattr(rounding, "_MOST_RMSE_HU", 0.0)
    _, about, err = denoised(floats, "--precision", "bfloat16", "-q")
    (warning,) = (words for words in about["warnings"] if "bfloat16" in words)
    assert warning.endswith("; use --precision float32 for what is measured or published")
    assert f"engine: warning: {floats.with_name('out.nii')}: {warning}\n" in err


def test_a_difference_below_the_rounding_of_a_file_is_no_warning():
    assert Rounding("bfloat16", 1.0, 9.0, (0, 7)).warnings() == []
    assert len(Rounding("bfloat16", 1.01, 9.0, (0, 7)).warnings()) == 1


@pytest.mark.parametrize("shape", [(1, 18, 20), (5, 9, 7), (8, 16, 16)])
def test_scans_of_few_slices_are_measured_whole(denoised, tmp_path, shape):
    stored = np.random.default_rng(0).integers(-400, 300, shape).astype("<i2")
    _, about, _ = denoised(scan_file(tmp_path / "few.nii", stored), "--precision", "bfloat16")
    assert about["precision"]["slices"] == [0, shape[0] - 1]
    assert about["precision"]["rmse_difference_hu"] > 0


def test_a_network_with_a_prior_is_measured_with_it(cpu, denoised, scan, tmp_path):
    run = untrained(tmp_path / "respr", tiny("respr_unet3d"), cpu).folder
    for words in ((), ("--prior", scan)):
        _, about, _ = denoised(scan, "--precision", "bfloat16", *words, run=run)
        assert about["precision"]["rmse_difference_hu"] > 0


def test_numbers_that_only_float16_cannot_hold_are_refused_with_the_remedy(
    engine, cpu, scan, tmp_path
):
    def large(arrays):
        return {
            name: array * (1e5 if "/kernel" in name and "/head/" not in name else 1e-12)
            for name, array in arrays.items()
        }

    run = untrained(tmp_path / "large", tiny("unet2d"), cpu, large).folder
    assert engine("denoise", scan, "-m", run)[0] == 0
    code, _, err = engine("denoise", scan, "-m", run, "--precision", "float16", "--overwrite")
    assert code == 6
    assert err.splitlines()[-1].endswith(
        "gives numbers that are not finite. Use --precision float32, or another model."
    )
    assert engine("denoise", scan, "-m", run, "--precision", "bfloat16", "--overwrite")[0] == 0


@pytest.mark.parametrize("words", [("--precision", "float8"), ("--xla", "maybe")])
def test_other_choices_are_refused_before_tensorflow_is_imported(unet_run, scan, words):
    ended = fresh("denoise", scan, "-m", unet_run, *words)
    assert ended.code == 2
    assert not {"tensorflow", "keras"} & ended.slow
    assert f"{words[0]}: does not accept {words[1]!r}" in ended.err


# -- XLA -------------------------------------------------------------------------------------------


def test_xla_is_told_and_gives_the_same_scan(denoised, floats, monkeypatch):
    monkeypatch.setattr(tiling, "_ENOUGH_BYTES", 0)
    monkeypatch.setattr(tiling, "_STEP_BYTES", 0)
    exact, _, _ = denoised(floats)
    found, about, _ = denoised(floats, "--xla", "on")
    assert about["xla"] is True
    np.testing.assert_allclose(found, exact, rtol=0, atol=0.01)  # HU


def test_a_scan_of_one_tile_is_not_compiled_and_says_so(denoised, floats):
    exact, _, _ = denoised(floats)
    found, about, _ = denoised(floats, "--xla", "on")
    assert "xla" not in about
    np.testing.assert_array_equal(found, exact)


# -- Repeated --------------------------------------------------------------------------------------

WHOLE = "the network gives the same voxels, bit for bit"


def verified(engine, scan, run, told=None):
    out = scan.with_name("out.nii")
    about = json.loads(out.with_suffix(".json").read_text())
    out.with_suffix(".json").write_text(json.dumps({**about, **(told or {})}))
    code, said, err = engine("verify", out, "--input", scan, "-m", run, "--again")
    lines = dict(line.split(": ", 1) for line in said.splitlines() if ": " in line)
    return code, lines.get("estimate"), err


@pytest.mark.parametrize("precision", LOWER)
def test_a_rerun_has_the_precision_of_the_sidecar(engine, denoised, unet_run, floats, precision):
    denoised(floats, "--precision", precision)
    assert verified(engine, floats, unet_run)[:2] == (0, WHOLE)


def test_another_precision_than_the_one_used_is_found(engine, denoised, unet_run, floats):
    _, about, _ = denoised(floats, "--precision", "bfloat16")
    assert about["precision"]["largest_difference_hu"] > 0.1
    code, _, err = verified(engine, floats, unet_run, {"precision": "float32"})
    assert code == 3
    assert "differs from the network's output" in err


def test_a_rerun_of_xla_on_a_cpu_differs_by_rounding_at_most(
    engine, denoised, unet_run, scan, monkeypatch
):
    monkeypatch.setattr(tiling, "_ENOUGH_BYTES", 0)
    denoised(scan, "--xla", "on")
    code, said, _ = verified(engine, scan, unet_run)
    assert code == 0
    assert said.startswith("the network gives the same voxels")


BAD = (
    None, "bfloat16", "float16", "float64", "", 32, True, [], {}, {"compute": "float32"},
    {"compute": None}, {"compute": ["bfloat16"]}, {"compute": "auto"},
)  # fmt: skip


@pytest.mark.gate("G14")
def test_sidecars_of_no_precision_are_refused(engine, denoised, unet_run, scan, faults):
    denoised(scan)
    for told in BAD:
        code, _, err = verified(engine, scan, unet_run, {"precision": told})
        assert code == 3, told
        assert "out.json: does not say how the scan was denoised" in err
        assert err.count("\n") == 1
        faults.handled()


def test_both_forms_of_a_sidecar_name_their_precision():
    assert sidecar.precision_of({"precision": "float32"}) == "float32"
    for precision in LOWER:
        told = Rounding(precision, 0.1, 1.0, (0, 7)).about()
        assert sidecar.precision_of({"precision": told}) == precision
    assert sidecar.precision_of({}) is None


# -- Devices ---------------------------------------------------------------------------------------


def test_of_several_devices_the_first_is_used_and_said_so(unet_run, scan):
    out = scan.with_name("out.nii")
    one = fresh("denoise", scan, "-m", unet_run, "-o", out, "--reproducible")
    bytes_ = content(out)
    two = fresh(
        "denoise", scan, "-m", unet_run, "-o", out, "--reproducible", "--overwrite", "--devices",
        "cpu:2",
    )  # fmt: skip
    assert (one.code, two.code) == (0, 0)
    assert "engine: warning: --devices cpu:2: only the first one is used" in two.err
    assert content(out) == bytes_


def test_a_plan_for_a_gpu_that_is_not_there_is_refused(engine, unet_run, scan):
    code, _, err = engine("denoise", scan, "-m", unet_run, "--plan", "--devices", "gpu")
    assert code == 2
    assert "--devices: asks for a GPU, but TensorFlow sees none" in err


def test_a_plan_has_the_memory_of_the_gpu_that_was_asked_for(engine, unet_run, scan, monkeypatch):
    from engine import runtime

    monkeypatch.setattr(tiling, "_ENOUGH_BYTES", 0)
    started = []
    monkeypatch.setattr(runtime, "start_inference", lambda *words: started.append(words))
    monkeypatch.setattr(runtime, "gpu_bytes", lambda: 2**37 if started else None)
    _, host, _ = engine("denoise", scan, "-m", unet_run, "--plan")
    assert not started
    _, gpu, _ = engine("denoise", scan, "-m", unet_run, "--plan", "--devices", "gpu:0")
    assert started == [("gpu:0", "auto", "auto")]
    assert "slabs of" in host
    assert "slabs of" in gpu
