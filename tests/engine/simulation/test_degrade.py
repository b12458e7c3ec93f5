import json

import nibabel as nib
import numpy as np
import pytest

from engine.errors import BadInput
from engine.simulation import degrade
from engine.simulation.degradation import parse
from tests.engine.tiny import comment, content, head, scan_file, voxels
from volumes import Gaussian
from volumes.dataset import find_cases


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


def test_a_slice_of_two_dimensions_keeps_its_header_and_gets_the_noise_of_one_of_three(tmp_path):
    hu = np.zeros((40, 30), "<i2")
    outs = []
    for name, stored in (("two", hu), ("three", hu[:, :, None])):
        (tmp_path / name).mkdir()
        path = tmp_path / name / "scan.nii"
        nib.save(nib.Nifti1Image(stored, np.diag([-0.7, -0.8, 3, 1])), path)
        outs.append(degraded(path))
        assert head(outs[-1]) == head(path)
    assert content(outs[0])[352:] == content(outs[1])[352:]
    assert np.std(nib.load(outs[0]).get_fdata()) == pytest.approx(140, rel=0.1)


def test_saturated_voxels_are_counted(tmp_path):
    low = np.zeros((4, 32, 32), "u1")
    path = scan_file(tmp_path / "scan.nii", low, slope=10.0, inter=-500.0)
    out = tmp_path / "out.nii"
    saturated = degrade.degrade(path, out, Gaussian(0.1), 0, overwrite=False)
    # The scan is at the lower end of the datatype: half of the noise is below it.
    assert saturated == pytest.approx(4 * 32 * 32 / 2, rel=0.1)
    told = json.loads(out.with_suffix(".json").read_text())
    assert told["saturated_voxels"] == saturated


def test_the_sidecar_describes_the_added_noise(flat):
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


# -- The command -----------------------------------------------------------------------------------


def test_the_command_writes_beside_the_scan_and_prints_the_path(engine, flat):
    code, out, _ = engine("degrade", flat, "--as", "gaussian:0.1")
    assert code == 0
    assert out == f"{flat.with_name('flat_gaussian-0.1.nii')}\n"
    assert flat.with_name("flat_gaussian-0.1.nii").is_file()


def test_the_command_ends_with_2_on_an_unknown_kind(engine, flat):
    code, out, err = engine("degrade", flat, "--as", "poisson:3")
    assert (code, out) == (2, "")
    assert err.startswith("engine: error: --as: names the unknown degradation 'poisson'")


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


# -- Scanners --------------------------------------------------------------------------------------

KINDS = "low_dose:1e4,1e6,sparse_view:60"
NAMES = ["imaging", "low_dose-1e4", "low_dose-1e6", "sparse_view-60"]


@pytest.fixture
def water(cpu, tmp_path):
    """Three slices of 40 HU of a body of 300 mm, its corners padded and one stripe missing."""
    folder = tmp_path / "in"
    folder.mkdir()
    return scan_file(folder / "water.nii.gz", body(), spacing_mm=(3.0, 10.0, 10.0))


def body():
    at = np.arange(32) - 15.5
    away = np.hypot(at[:, None], at)
    hu = np.where(away < 15, 40, -1000) + np.zeros((3, 1, 1))
    hu[:, :2, :2] = -2048
    hu[1, 14:16, 8:20] = np.nan
    hu[2, 0, 28:] = 700  # a couch, beyond what the scanner sees
    return hu.astype("<f4")


SEEN = np.hypot(np.arange(32)[:, None] - 15.5, np.arange(32) - 15.5) <= 16


def command(engine, *words):
    code, out, err = engine("degrade", *words, "--devices", "cpu")
    return code, [line.rsplit("/", 2)[-2:] for line in out.splitlines()], err


def about(path):
    return json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())


def test_several_kinds_make_a_folder_of_cases(engine, water, tmp_path):
    code, out, _ = command(engine, water, "--as", KINDS, "-o", tmp_path / "out")
    assert code == 0
    assert out == [["water", f"{name}.nii.gz"] for name in NAMES]
    found = sorted(path.name for path in (tmp_path / "out" / "water").iterdir())
    assert found == sorted([f"{n}.nii.gz" for n in NAMES] + [f"{n}.json" for n in NAMES])
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["water.nii.gz"]


@pytest.fixture
def made(engine, water, tmp_path):
    assert command(engine, water, "--as", KINDS, "-o", tmp_path / "out")[0] == 0
    return tmp_path / "out" / "water"


def test_the_reference_is_the_source_inside_the_circle_and_air_outside(made):
    before, after = body(), voxels(made / "imaging.nii.gz")
    kept = np.isnan(before) | (before <= -1500) | SEEN
    np.testing.assert_array_equal(after.view("<u4")[kept], before.view("<u4")[kept])
    assert (after[~kept] == -1000).all()
    assert after[2, 0, 31] == -1000  # the couch


@pytest.mark.parametrize("name", NAMES[1:])
def test_padding_and_header_are_kept_and_the_outside_is_air(made, water, name):
    before, after = body(), voxels(made / f"{name}.nii.gz")
    assert head(made / f"{name}.nii.gz") == head(water)
    padded = np.isnan(before) | (before <= -1500)
    np.testing.assert_array_equal(after.view("<u4")[padded], before.view("<u4")[padded])
    assert (after[~padded & ~SEEN] == -1000).all()
    seen = ~padded & SEEN
    assert (after[seen] != before[seen]).mean() > 0.9
    assert after[0, 8:24, 8:24].mean() == pytest.approx(40, abs=25)


def test_fewer_photons_are_noisier_in_the_files_too(made):
    inner = np.s_[0, 8:24, 8:24]
    few, many = (voxels(made / f"low_dose-{n}.nii.gz")[inner].std() for n in ("1e4", "1e6"))
    assert few > 3 * many


def test_sidecars_say_how_the_files_were_made(made):
    found = about(made / "sparse_view-60.nii.gz")
    assert found["degradation"]["views"] == 60
    assert found["scanner"] == {
        "geometry": {"kind": "fan_beam", "views": 900, "bins": 729, "fan_degrees": 35.0,
                     "source_pixels": 1000.0},
        "mu_water_per_mm": 0.01931, "filter": "ram-lak", "spacing_mm": [3.0, 10.0, 10.0],
    }  # fmt: skip
    assert (found["seed"], found["case"]) == (0, "water")
    assert found["rays"] == {"rays": 3 * 60 * 729, "starved": 0, "floored": 0}
    assert found["max_line_integral"] == pytest.approx(300 * 0.01931 * 1.04, rel=0.05)
    assert found["computed_on"]["devices"] == ["/cpu:0"]
    reference = about(made / "imaging.nii.gz")
    assert reference["source_sha256"] == found["source_sha256"]
    assert "degradation" not in reference


def test_the_output_is_a_dataset_in_kits19_s_layout(made):
    (case,) = find_cases(made.parent)
    assert (case.name, case.path) == ("water", made / "imaging.nii.gz")


def test_one_kind_of_one_scan_is_written_beside_it_with_the_same_voxels(engine, made, water):
    code, out, _ = engine("degrade", water, "--as", "low_dose:1e4")
    beside = water.with_name("water_low_dose-1e4.nii.gz")
    assert (code, out) == (0, f"{beside}\n")
    assert beside.read_bytes() == (made / "low_dose-1e4.nii.gz").read_bytes()


def test_finished_files_are_kept_and_said_so(engine, made, water, tmp_path):
    for name in ("low_dose-1e6.nii.gz", "low_dose-1e6.json"):
        (made / name).unlink()
    before = {path: path.stat().st_mtime_ns for path in made.iterdir()}
    code, out, err = command(engine, water, "--as", KINDS, "-o", tmp_path / "out")
    assert code == 0
    assert out == [["water", f"{name}.nii.gz"] for name in NAMES]
    assert "water: 3 of 4 files are finished, and kept" in err
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (made / "low_dose-1e6.nii.gz").is_file()


def test_a_lost_file_is_made_again_with_the_same_bytes(engine, made, water, tmp_path):
    lost = made / "low_dose-1e4.nii.gz"
    before = lost.read_bytes()
    lost.unlink()  # its sidecar is still there
    assert command(engine, water, "--as", KINDS, "-o", tmp_path / "out")[0] == 0
    assert lost.read_bytes() == before


@pytest.mark.parametrize("what", ["seed", "source_sha256", "sidecar"])
def test_files_made_otherwise_are_refused_and_stay(engine, made, water, tmp_path, what):
    more = ()
    if what == "seed":
        more = ("--seed", "1")
    elif what == "sidecar":
        (made / "low_dose-1e4.json").unlink()
    else:
        scan_file(water, body() + np.float32(1), spacing_mm=(3.0, 10.0, 10.0))
    before = {path: path.read_bytes() for path in made.iterdir()}
    code, out, err = command(engine, water, "--as", KINDS, "-o", tmp_path / "out", *more)
    assert (code, out) == (4, [])
    assert what in err
    assert {path: path.read_bytes() for path in made.iterdir()} == before
    code, _, _ = command(engine, water, "--as", KINDS, "-o", tmp_path / "out", *more, "--overwrite")
    assert code == 0
    assert about(made / "low_dose-1e4.nii.gz")["seed"] == (what == "seed")


@pytest.mark.parametrize("kinds", ["gaussian:0.1", "gaussian:0.05,0.1", "low_dose:1e5"])
def test_the_cases_of_a_folder_are_degraded_by_their_names(engine, cpu, tmp_path, kinds):
    for case in ("a", "b"):
        (tmp_path / "in" / case).mkdir(parents=True)
        scan_file(tmp_path / "in" / case / "imaging.nii.gz", body(), spacing_mm=(3.0, 10.0, 10.0))
    code, out, _ = command(engine, tmp_path / "in", "--as", kinds, "-o", tmp_path / "out")
    assert code == 0
    names = ["imaging", *(degradation.name for degradation in parse(kinds))]
    assert out == [[case, f"{name}.nii.gz"] for case in "ab" for name in names]
    one, other = (voxels(tmp_path / "out" / case / f"{names[1]}.nii.gz") for case in "ab")
    inner = np.s_[0, 8:24, 8:24]
    assert (one[inner] != other[inner]).all()


def test_white_noise_leaves_the_reference_as_the_source_is(engine, water, tmp_path):
    command(engine, water, "--as", "gaussian:0.05,0.1", "-o", tmp_path / "out")
    assert content(tmp_path / "out" / "water" / "imaging.nii.gz") == content(water)


def test_starved_rays_give_a_warning(engine, water):
    code, _, err = engine("degrade", water, "--as", "low_dose:100")
    assert code == 0
    found = about(water.with_name("water_low_dose-1e2.nii.gz"))["rays"]
    assert 0 < found["starved"] == found["floored"] < found["rays"] == 3 * 900 * 729
    assert f"{found['starved']:,} of {found['rays']:,} rays met no photon" in err


@pytest.mark.parametrize(
    ("words", "code", "cause"),
    [
        (["--as", "low_dose:1e5,2e5"], 2, "must be a folder"),
        (["--as", "low_dose:1e5,2e5", "-o", "out.nii.gz"], 2, "must be a folder"),
        (["--as", "sparse_view:70", "-o", "out"], 2, "900 views cannot be thinned evenly to 70"),
        (["--as", "low_dose:1e5", "--devices", "tpu"], 2, "--devices"),
    ],
)
def test_invalid_input_is_refused(engine, flat, words, code, cause):
    found, out, err = engine("degrade", flat, *words)
    assert (found, out) == (code, "")
    assert cause in err


def test_pixels_that_are_not_square_are_refused_before_anything_is_made(engine, flat, tmp_path):
    code, _, err = engine("degrade", flat, "--as", "low_dose:1e5,2e5", "-o", tmp_path / "out")
    assert code == 3
    assert "has pixels of 0.8 x 0.7 mm" in err
    assert not (tmp_path / "out").exists()


def test_a_folder_is_not_degraded_into_itself(engine, water):
    folder = water.parent / "case"
    folder.mkdir()
    water.rename(folder / "imaging.nii.gz")
    code, _, err = engine("degrade", water.parent, "--as", "low_dose:1e5", "-o", water.parent)
    assert code == 4
    assert "is an input" in err


def test_a_damaged_scan_is_found_before_the_first_is_scanned(engine, water, tmp_path):
    other = water.with_name("x.nii.gz")
    other.write_bytes(water.read_bytes()[:-10])
    code, _, err = engine("degrade", water.parent, "--as", "low_dose:1e5", "-o", tmp_path / "out")
    assert code == 3
    assert "x.nii.gz" in err
    assert not (tmp_path / "out").exists()


def test_photographs_are_no_scans(engine, photographs, tmp_path):
    code, _, err = engine("degrade", photographs, "--as", "low_dose:1e5", "-o", tmp_path / "out")
    assert code == 3
    assert "is a photograph" in err
