import json

import numpy as np
import pytest

from engine import degrade
from engine.refusals import BadInput, BadUsage
from tests.engine.tiny import comment, content, head, scan_file, voxels
from volumes import Gaussian


@pytest.fixture
def flat(tmp_path):
    """A scan of 40 HU, as float32, so that nothing is rounded."""
    return scan_file(tmp_path / "flat.nii", np.full((8, 64, 64), 40, "<f4"))


def degraded(path, seed=0, sigma=0.1, out=None):
    out = out or path.with_name(f"out{seed}.nii")
    degrade.degrade(path, out, Gaussian(sigma), seed, overwrite=True)
    return out


def test_noise_of_a_tenth_of_the_window_is_140_hu(flat):
    noise = voxels(degraded(flat)) - 40
    assert noise.std() == pytest.approx(140, rel=0.02)  # of 32,768 voxels
    assert abs(noise.mean()) < 4


def test_the_noise_is_gaussian_and_white(flat):
    noise = (voxels(degraded(flat)) - 40) / 140
    assert (np.abs(noise) > 2).mean() == pytest.approx(0.0455, abs=0.005)
    for axis in range(3):
        one, other = np.delete(noise, -1, axis), np.delete(noise, 0, axis)
        assert abs(np.mean(one * other)) < 0.03


def test_nothing_is_clipped_to_the_window(tmp_path):
    hu = np.where(np.arange(64) < 32, -1000, 1000).astype("<f4")
    path = scan_file(tmp_path / "scan.nii", np.broadcast_to(hu, (4, 64, 64)).copy())
    found = voxels(degraded(path))
    assert found[..., :32].min() < -1200
    assert found[..., 32:].mean() == pytest.approx(1000, abs=10)


def test_the_same_seed_gives_the_same_bytes(flat):
    one = degraded(flat, out=flat.with_name("one.nii.gz")).read_bytes()
    other = degraded(flat, out=flat.with_name("other.nii.gz")).read_bytes()
    assert one == other


def test_another_seed_gives_other_noise(flat):
    noise = [(voxels(degraded(flat, seed=seed)) - 40).ravel() for seed in (0, 1)]
    assert abs(np.corrcoef(noise)[0, 1]) < 0.03


def test_another_case_has_other_noise(flat, tmp_path):
    twin = tmp_path / "twin.nii"
    twin.write_bytes(flat.read_bytes())
    noise = [(voxels(degraded(path)) - 40).ravel() for path in (flat, twin)]
    assert abs(np.corrcoef(noise)[0, 1]) < 0.03


@pytest.mark.parametrize("axes", ["RAS", "LPI", "SAL"])
def test_the_noise_does_not_depend_on_how_the_scan_is_stored(flat, axes):
    before = voxels(degraded(flat))
    scan_file(flat, np.full((8, 64, 64), 40, "<f4"), axes)
    np.testing.assert_array_equal(voxels(degraded(flat)), before)


def test_padding_is_kept_to_the_bit(tmp_path):
    stored = np.full((4, 32, 32), 40, "<f4")
    stored[:, :4] = -2000
    stored[2, 10:12, 5:9] = np.nan
    path = scan_file(tmp_path / "scan.nii", stored)
    found = voxels(degraded(path))
    kept = (stored == -2000) | np.isnan(stored)
    np.testing.assert_array_equal(found.view("<u4")[kept], stored.view("<u4")[kept])
    assert (found[~kept] != 40).all()


def test_the_header_is_kept_to_the_byte(tmp_path, phantom_hu):
    stored = (phantom_hu + 1024).astype(">u2")
    path = scan_file(tmp_path / "scan.nii", stored, inter=-1024.0, extension=comment(b"hi", ">"))
    out = degraded(path)
    assert head(out) == head(path)
    assert len(content(out)) == len(content(path))


def test_what_the_datatype_cannot_hold_is_counted(tmp_path):
    low = np.zeros((4, 32, 32), "u1")
    path = scan_file(tmp_path / "scan.nii", low, slope=10.0, inter=-500.0)
    out = tmp_path / "out.nii"
    saturated = degrade.degrade(path, out, Gaussian(0.1), 0, overwrite=False)
    # The scan lies at the datatype's lower end: half of the noise goes below it.
    assert saturated == pytest.approx(4 * 32 * 32 / 2, rel=0.1)
    told = json.loads(out.with_suffix(".json").read_text())
    assert told["saturated_voxels"] == saturated


def test_the_sidecar_says_what_was_added(flat):
    about = json.loads(degraded(flat, seed=3).with_suffix(".json").read_text())
    assert about["degradation"] == {"kind": "gaussian", "sigma": 0.1}
    assert about["sigma_hu"] == pytest.approx(140)
    assert (about["seed"], about["case"]) == (3, "flat")


def test_a_damaged_scan_leaves_no_output(flat):
    block = flat.read_bytes()
    flat.write_bytes(block[:-100])
    with pytest.raises(BadInput):
        degraded(flat)
    assert [path.name for path in flat.parent.iterdir()] == ["flat.nii"]


@pytest.mark.parametrize("text", ["poisson:3", "low_dose", "", "0.1", "Gaussian:0.1"])
def test_an_unknown_kind_is_refused(text):
    with pytest.raises(BadUsage, match="--as: knows no degradation"):
        degrade.parse(text)


@pytest.mark.parametrize("text", ["gaussian", "gaussian:", "gaussian:loud", "gaussian:-0.1"])
def test_a_strength_that_is_none_is_refused(text):
    with pytest.raises(BadUsage, match="--as"):
        degrade.parse(text)


def test_a_degradation_is_written_in_words():
    assert degrade.parse("gaussian:0.05") == Gaussian(0.05)


# -- The command -----------------------------------------------------------------------------------


def test_the_command_writes_beside_the_scan_what_it_names(engine, flat):
    code, out, _ = engine("degrade", flat, "--as", "gaussian:0.1")
    assert code == 0
    assert out == f"{flat.with_name('flat_gaussian-0.1.nii')}\n"
    assert flat.with_name("flat_gaussian-0.1.nii").is_file()


def test_the_command_ends_with_2_on_an_unknown_kind(engine, flat):
    code, out, err = engine("degrade", flat, "--as", "poisson:3")
    assert (code, out) == (2, "")
    assert err.startswith("engine: error: --as: knows no degradation 'poisson'")


def test_the_command_ends_with_4_where_its_output_exists(engine, flat):
    taken = flat.with_name("flat_gaussian-0.1.nii")
    taken.write_bytes(b"mine")
    assert engine("degrade", flat, "--as", "gaussian:0.1")[0] == 4
    assert taken.read_bytes() == b"mine"
    assert engine("degrade", flat, "--as", "gaussian:0.1", "--overwrite")[0] == 0
    assert taken.read_bytes() != b"mine"


def test_the_scan_is_never_replaced(engine, flat):
    before = flat.read_bytes()
    code, _, err = engine("degrade", flat, "--as", "gaussian:0.1", "-o", flat, "--overwrite")
    assert code == 4
    assert "is an input" in err
    assert flat.read_bytes() == before


def test_the_person_is_warned_of_saturated_voxels(engine, tmp_path):
    low = np.zeros((4, 32, 32), "u1")
    path = scan_file(tmp_path / "scan.nii", low, slope=10.0, inter=-500.0)
    code, _, err = engine("degrade", path, "--as", "gaussian:0.1")
    assert code == 0
    assert "voxels were saturated by the file's datatype" in err


@pytest.mark.real_ct
def test_a_real_scan_gets_noise_of_140_hu(real_ct, tmp_path):
    path = real_ct / "case_00003" / "imaging.nii.gz"
    before, after = voxels(path), voxels(degraded(path, out=tmp_path / "out.nii"))
    measured = before > -1400
    noise = after[measured].astype(float) - before[measured]
    assert noise[noise != 0].std() == pytest.approx(140, rel=0.01)
    np.testing.assert_array_equal(after[before <= -1500], before[before <= -1500])
