import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest

from engine.checkpoints import checkpoint
from engine.denoising import sidecar
from engine.runs.run import Run
from engine.runs.trained_model import open_model
from tests.engine.fresh import fresh
from tests.engine.tiny import comment, content, head, scan_file, tiny, untrained

SHAPE = (5, 18, 20)


@pytest.fixture
def scan(tmp_path):
    stored = np.random.default_rng(0).integers(-400, 300, SHAPE).astype("<i2")
    stored[:, :4] = -2048
    return scan_file(tmp_path / "scan.nii", stored, extension=comment(b"Jane Doe, 1970-01-01"))


@pytest.fixture
def denoised(engine, unet_run, scan):
    assert engine("denoise", scan, "-m", unet_run, "-q", "--save-residual")[0] == 0
    return scan.with_name("scan_denoised.nii")


def edited(path, change):
    place = path.with_suffix(".json")
    about = json.loads(place.read_text())
    change(about)
    place.write_text(json.dumps(about))


def test_all_that_can_be_checked_is_checked(engine, unet_run, denoised):
    code, out, err = engine("verify", denoised, "-m", unet_run)
    assert (code, err) == (0, "")
    checked = [line.partition(":")[0] for line in out.splitlines()]
    assert checked == [
        "output", "residual", "input", "header", "padding", "voxels", "leakage", "model", "code",
        "estimate", "options, versions, machine and time", "research use, not a medical device",
    ]  # fmt: skip
    assert out.count("not checked") == 2  # the estimate, and what only the sidecar contains


def test_skipped_checks_are_listed(engine, denoised, scan):
    scan.unlink()
    denoised.with_name("scan_residual.nii").unlink()
    code, out, _ = engine("verify", denoised)
    assert code == 0
    unchecked = [line.partition(":")[0] for line in out.splitlines() if "not checked" in line]
    assert unchecked == [
        "residual", "input", "kept voxels", "model", "estimate",
        "options, versions, machine and time",
    ]  # fmt: skip


@pytest.mark.parametrize("at", [0.1, 0.5, 0.99])
def test_an_altered_output_ends_with_3(engine, denoised, at):
    block = bytearray(denoised.read_bytes())
    block[max(352 + 48, int(at * len(block)))] ^= 1
    denoised.write_bytes(block)
    code, _, err = engine("verify", denoised)
    assert code == 3
    assert f"{denoised}: is altered since it was written" in err
    assert err.count("\n") == 1


def test_an_altered_residual_ends_with_3(engine, denoised):
    residual = denoised.with_name("scan_residual.nii")
    residual.write_bytes(residual.read_bytes() + b"\0")
    code, _, err = engine("verify", denoised)
    assert (code, str(residual) in err) == (3, True)


def test_another_input_ends_with_3(engine, denoised, scan, tmp_path):
    other = scan_file(tmp_path / "other.nii", np.zeros(SHAPE, "<i2"))
    code, _, err = engine("verify", denoised, "--input", other)
    assert code == 3
    assert f"{other}: is not the scan that was denoised" in err


def test_an_output_without_a_sidecar_ends_with_3(engine, denoised):
    denoised.with_suffix(".json").unlink()
    code, _, err = engine("verify", denoised)
    assert code == 3
    assert "has no sidecar scan_denoised.json beside it" in err


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "{}", '{"output_sha256": 5}', "[" * 10**5])
def test_a_sidecar_that_is_none_ends_with_3(engine, denoised, text):
    denoised.with_suffix(".json").write_text(text)
    code, _, err = engine("verify", denoised)
    assert (code, err.count("\n")) == (3, 1)


@pytest.mark.parametrize("name", ["total", "padding", "changed"])
def test_edited_counts_end_with_3(engine, denoised, name):
    edited(denoised, lambda about: about["voxels"].update({name: 7}))
    code, _, err = engine("verify", denoised)
    assert code == 3
    assert f"has a wrong count of voxels ({name})" in err


def test_an_edited_description_of_the_residual_ends_with_3(engine, denoised):
    edited(denoised, lambda about: about["residual"].update(with_anatomy=0.0, max_hu=1.0))
    code, _, err = engine("verify", denoised)
    assert code == 3
    assert "describes another residual" in err


@pytest.mark.parametrize("name", ["voxels", "residual", "model", "input_sha256", "header"])
@pytest.mark.parametrize("value", [None, [], "x", {"step": [1]}])
def test_a_sidecar_of_wrong_types_is_refused(engine, unet_run, denoised, name, value):
    edited(denoised, lambda about: about.update({name: value}))
    code, _, err = engine("verify", denoised, "-m", unet_run)
    assert code in ((0,) if name == "header" else (3, 5))  # whatever is not cleared is kept
    assert err.count("\n") == (code != 0)


def rewritten(path, block):
    """Another file, with its hash in the sidecar."""
    path.write_bytes(block)
    sha256 = hashlib.sha256(block).hexdigest()
    edited(path, lambda about: about.update(output_sha256=sha256))


def test_padding_that_was_changed_is_found_though_the_hashes_fit(engine, denoised, scan):
    block = bytearray(denoised.read_bytes())
    assert content(scan)[len(head(scan)) :][:2] == block[len(head(scan)) :][:2]
    stored = np.frombuffer(bytes(block[len(head(scan)) :]), "<i2").copy()
    stored[stored == -2048] = -2047
    block[len(head(scan)) :] = stored.tobytes()
    rewritten(denoised, block)
    code, _, err = engine("verify", denoised)
    assert code == 3
    assert "padding that is not its input's" in err


def test_a_header_that_was_changed_is_found_though_the_hashes_fit(engine, denoised):
    block = bytearray(denoised.read_bytes())
    block[148:152] = b"mine"
    rewritten(denoised, block)
    code, _, err = engine("verify", denoised)
    assert code == 3
    assert "another header" in err


def test_other_weights_end_with_5(engine, cpu, denoised, tmp_path):
    other = untrained(tmp_path / "other", tiny("unet3d", "seed=9"), cpu)
    code, _, err = engine("verify", denoised, "-m", other.folder)
    assert code == 5
    assert "holds other weights" in err


def test_another_recipe_ends_with_5(engine, cpu, unet_run, denoised, tmp_path):
    arrays = checkpoint.load(Run(unet_run).checkpoint("last"))
    recipe = tiny("unet3d", "noise.sigma=0.2")
    other = untrained(tmp_path / "other", recipe, cpu, lambda _: arrays)
    code, _, err = engine("verify", denoised, "-m", other.folder)
    assert code == 5
    assert "is another recipe" in err


def test_a_run_that_was_made_longer_is_the_same_model(engine, cpu, unet_run, denoised, tmp_path):
    arrays = checkpoint.load(Run(unet_run).checkpoint("last"))
    longer = untrained(tmp_path / "longer", tiny("unet3d", "steps=99"), cpu, lambda _: arrays)
    assert engine("verify", denoised, "-m", longer.folder)[0] == 0


def test_a_run_without_that_checkpoint_ends_with_5(engine, trained, denoised):
    code, _, err = engine("verify", denoised, "-m", trained)
    assert code == 5
    assert "has no checkpoint 1" in err


def test_a_scan_without_free_text_verifies_too(engine, unet_run, scan, tmp_path):
    out = tmp_path / "anonymous.nii"
    code, _, _ = engine("denoise", scan, "-m", unet_run, "--strip-phi", "-o", out)
    assert code == 0
    assert b"Jane" in content(scan)
    assert b"Jane" not in content(out)
    assert b"made for a test" not in content(out)
    assert len(head(out)) == 352
    code, said, _ = engine("verify", out, "--input", scan, "-m", unet_run)
    assert code == 0
    assert "header: the input's, its free text cleared" in said


def test_the_free_text_stays_unless_it_is_asked_to_go(denoised, scan):
    assert head(denoised) == head(scan)
    assert b"Jane" in content(denoised)


def test_tensorflow_is_not_imported(unet_run, denoised):
    ended = fresh("verify", denoised, "-m", unet_run)
    assert ended.code == 0
    assert not {"tensorflow", "keras"} & ended.slow


def test_a_warning_that_was_taken_out_is_missed(engine, unet_run, denoised):
    told = json.loads(denoised.with_name("scan_denoised.json").read_text())["warnings"]
    assert any("correlates with the anatomy" in words for words in told)
    edited(denoised, lambda about: about.update(warnings=[]))
    code, _, err = engine("verify", denoised, "-m", unet_run)
    assert code == 3
    assert "does not warn that the residual correlates with the anatomy" in err


def test_the_output_of_another_version_is_reported_as_such(engine, unet_run, denoised):
    _, said, _ = engine("verify", denoised, "-m", unet_run)
    assert "code: this program's, sha256 " in said
    assert "options, versions, machine and time: not checked" in said
    edited(denoised, lambda about: about.update(code_sha256="0" * 64))
    code, said, _ = engine("verify", denoised, "-m", unet_run)
    assert code == 0
    assert f"code: another version of the program, sha256 {'0' * 64}\n" in said
    edited(denoised, lambda about: about.pop("code_sha256"))
    assert "code: not checked, its hash is unknown" in engine("verify", denoised)[1]


def test_a_recipe_field_that_a_later_version_added_leaves_older_sidecars_valid(unet_run):
    model = open_model(Run(unet_run))
    recipe = sidecar.origin(model)["recipe"]
    assert "average" not in recipe
    assert "spread" not in recipe["noise"]
    averaged = replace(model, recipe=replace(model.recipe, average=0.9))
    assert sidecar.origin(averaged)["recipe"]["average"] == 0.9
