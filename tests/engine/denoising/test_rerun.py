import hashlib
import json

import numpy as np
import pytest

from engine.inference import tiling
from tests.engine.tiny import content, head, scan_file, tiny, untrained, voxels

SHAPE = (5, 18, 20)


@pytest.fixture
def scan(tmp_path):
    stored = np.random.default_rng(0).integers(-400, 300, SHAPE).astype("<i2")
    stored[:, :4] = -2048
    return scan_file(tmp_path / "scan.nii", stored)


@pytest.fixture
def verified(engine, unet_run, scan):
    """The output of verify --again for a scan that was denoised with options and then changed."""

    def call(*words, change=None, told=None, more=(), run=unet_run, source=scan):
        out = scan.with_name("out.nii")
        assert engine("denoise", source, "-m", run, "-q", "-o", out, "--overwrite", *words)[0] == 0
        about = json.loads(out.with_suffix(".json").read_text())
        if change is not None:
            whole, length = content(out), len(head(out))
            stored = np.frombuffer(whole[length:], "<i2").copy()
            change(stored)
            out.write_bytes(whole[:length] + stored.tobytes())
            about["output_sha256"] = hashlib.sha256(out.read_bytes()).hexdigest()
        about.update(told or {})
        out.with_suffix(".json").write_text(json.dumps(about))
        code, said, err = engine("verify", out, "--input", source, "-m", run, "--again", *more)
        lines = dict(line.split(": ", 1) for line in said.splitlines() if ": " in line)
        return code, lines.get("estimate"), err

    return call


WHOLE = "the network gives the same voxels, bit for bit"


@pytest.mark.parametrize("words", [
    (), ("--strength", "0.5"), ("--strength", "0"), ("--tile", "2,8,8"), ("--strip-phi",),
    ("--reproducible",),
])  # fmt: skip
def test_a_rerun_gives_the_same_voxels(verified, words):
    assert verified(*words)[:2] == (0, WHOLE)


@pytest.mark.parametrize("words", [(), ("--reproducible",)])
def test_a_stream_is_repeated_slab_by_slab(verified, monkeypatch, scan, words):
    monkeypatch.setattr(tiling, "_ENOUGH_BYTES", 0)
    assert verified(*words)[:2] == (0, WHOLE)
    about = json.loads(scan.with_name("out.json").read_text())
    assert about["tiles"] == {"count": 1, "shape": [8, 18, 20], "streamed": True}


def test_a_sidecar_of_separate_tiles_is_verified_after_a_stream(verified, monkeypatch):
    monkeypatch.setattr(tiling, "_ENOUGH_BYTES", 0)
    tiles = {"count": 1, "shape": [8, 20, 20]}  # as sidecars had it before there were streams
    assert verified(told={"tiles": tiles})[:2] == (0, WHOLE)


def test_a_prior_is_computed_again(verified, respr_run):
    assert verified(run=respr_run)[:2] == (0, WHOLE)


def test_one_volume_of_several_is_denoised_again(verified, tmp_path):
    four = np.random.default_rng(1).integers(-400, 300, (*SHAPE, 2)).astype("<i2")
    source = scan_file(tmp_path / "four.nii", four)
    assert verified("--volume", "1", source=source)[:2] == (0, WHOLE)


def test_floats_are_compared_too(verified, tmp_path):
    stored = np.random.default_rng(1).normal(0, 200, SHAPE).astype("<f4")
    stored[2, 3, 4] = np.nan
    assert verified(source=scan_file(tmp_path / "floats.nii", stored))[:2] == (0, WHOLE)


@pytest.mark.usefixtures("same_residual")
def test_voxels_that_another_hand_changed_are_found(verified):
    def lesion_gone(stored):
        changed = np.flatnonzero(stored != -2048)[100:140]
        stored[changed] += 5

    code, _, err = verified(change=lesion_gone)
    assert code == 3
    assert "differs from the network's output: 40 voxels differ, by up to 5 HU" in err


@pytest.fixture
def same_residual(monkeypatch):
    """Disables the checks of counts and residual, which would find a change first."""
    monkeypatch.setattr("engine.denoising.verify.alike", lambda *_: True)


@pytest.mark.usefixtures("same_residual")
def test_a_rounding_difference_of_one_step_is_accepted(verified):
    def rounded(stored):
        stored[np.flatnonzero(stored != -2048)[7]] += 1

    code, said, _ = verified(change=rounded)
    assert code == 0
    assert (
        said
        == "the network gives the same voxels except for rounding: 1 voxel differs, by up to 1 HU"
    )


def test_another_strength_than_the_one_used_is_found(verified):
    code, _, err = verified("--strength", "0.5", told={"strength": 1.0})
    assert code == 3
    assert "differs from the network's output" in err


@pytest.mark.parametrize("told", [
    {"strength": None}, {"strength": "1"}, {"strength": True}, {"strength": 7}, {"tiles": []},
    {"tiles": {"shape": [1, 2]}}, {"tiles": {"shape": [0, 8, 8]}}, {"tiles": {"shape": "all"}},
    {"tiles": {"shape": [8, 8, 8], "streamed": 1}},
    {"photons": "many"}, {"photons": -1}, {"photons": 10**400},
])  # fmt: skip
def test_a_sidecar_that_does_not_say_how_is_refused(verified, told):
    code, _, err = verified(told=told)
    assert code == 3
    assert "out.json: does not say how the scan was denoised" in err
    assert err.count("\n") == 1


def test_the_second_scan_is_named_again_and_is_the_same(verified, respr_run, scan, tmp_path):
    second = scan_file(tmp_path / "second.nii", voxels(scan) + np.int16(3))
    code, said, _ = verified("--prior", second, run=respr_run, more=("--prior", second))
    assert (code, said) == (0, WHOLE)
    code, _, err = verified("--prior", second, run=respr_run)
    assert code == 2
    assert "--prior: was given when the scan was denoised" in err
    code, _, err = verified("--prior", second, run=respr_run, more=("--prior", scan))
    assert code == 3
    assert f"{scan}: is not the second scan that was used" in err
    code, _, err = verified(run=respr_run, more=("--prior", second))
    assert code == 2
    assert "--prior: was not given" in err


def test_a_rerun_needs_model_and_input(engine, unet_run, scan, tmp_path):
    assert engine("denoise", scan, "-m", unet_run, "-q")[0] == 0
    out = scan.with_name("scan_denoised.nii")
    code, _, err = engine("verify", out, "--again")
    assert (code, err) == (2, "engine: error: --again: needs a model. Name it by --model.\n")
    code, _, err = engine("verify", out, "--prior", scan)
    assert code == 2
    scan.unlink()
    code, _, err = engine("verify", out, "-m", unet_run, "--again")
    assert code == 3
    assert "Name it by --input" in err


def test_the_dose_is_used_again(cpu, verified, tmp_path):
    recipe = tiny("lowdose_dncnn", "network.sees_dose=true", "network.depth=3")
    run = untrained(tmp_path / "told", recipe, cpu).folder
    assert verified("--photons", "3e4", run=run)[:2] == (0, WHOLE)
    code, _, err = verified("--photons", "3e4", run=run, told={"photons": 1e6})
    assert code == 3
    assert "differs from the network's output" in err
