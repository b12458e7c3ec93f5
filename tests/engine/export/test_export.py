"""`engine export`: files for other programs, written only if they agree with the engine."""

import json
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from engine.export import onnx_file
from tests.engine import tiny

ROOT = Path(__file__).parents[3]
WEIGHTS = ROOT / "recipes" / "weights" / "gaussian_denoiser"
NEEDS_EXTRA = "the extra [export] is not installed"


@pytest.fixture(scope="module")
def run(tmp_path_factory, cpu) -> Path:
    """A run of a ResPr-UNet, not trained."""
    folder = tmp_path_factory.mktemp("runs") / "respr"
    tiny.untrained(folder, tiny.tiny("respr_unet3d"), cpu)
    return folder


def test_an_onnx_file_tells_how_to_apply_it(engine, run, tmp_path, cpu):
    onnxruntime = pytest.importorskip("onnxruntime", reason=NEEDS_EXTRA)
    target = tmp_path / "respr.onnx"
    code, out, err = engine("export", run, target, "--licence", "CC-BY-4.0")
    assert (code, out) == (0, f"{target}\n")
    session = onnxruntime.InferenceSession(target)
    inputs = {image.name: image.shape for image in session.get_inputs()}
    assert inputs == {key: ["batch", "Z", "Y", "X", 1] for key in ("noisy", "prior")}
    (output,) = session.get_outputs()
    assert (output.name, output.shape) == ("estimate", ["batch", "Z", "Y", "X", 1])
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["window_hu"]) == [-1000, 400]
    assert json.loads(facts["stride"]) == [2, 2, 2]
    assert json.loads(facts["radius"]) == list(tiny.tiny("respr_unet3d").network.radius)
    assert json.loads(facts["prior"])["radius"] == 4
    assert facts["licence"] == "CC-BY-4.0"
    checked = json.loads(facts["checked"])
    assert checked["source"] == "phantom"
    assert 0 <= checked["largest_difference_hu"] < checked["limit_hu"]
    assert f"{checked['largest_difference_hu']:.2g} HU" in err
    assert str(tmp_path) not in json.dumps(facts)


def test_a_saved_model_is_served_without_the_engine(engine, run, tmp_path, phantom_file, cpu):
    import tensorflow as tf

    target = tmp_path / "respr"
    assert engine("export", run, target, "--on", phantom_file)[0] == 0
    facts = json.loads((target / "network.json").read_text())
    assert facts["licence"] == "not stated"
    assert facts["inputs"] == ["noisy", "prior"]
    assert re.fullmatch("[0-9a-f]{64}", facts["checked"]["source"])
    served = tf.saved_model.load(str(target)).signatures["serving_default"]
    ones = tf.ones((1, 4, 8, 6, 1))
    assert served(noisy=ones, prior=ones)["estimate"].shape == ones.shape
    assert sorted(tmp_path.iterdir()) == sorted([target, phantom_file])


@pytest.mark.parametrize("name", ["respr.onnx", "respr"])
def test_nothing_is_written_if_the_file_differs_from_the_engine(
    engine, run, tmp_path, cpu, monkeypatch, name
):
    if name.endswith(".onnx"):
        pytest.importorskip("tf2onnx", reason=NEEDS_EXTRA)
    monkeypatch.setattr("engine.export.agreement.LIMIT", -1.0)
    code, out, err = engine("export", run, tmp_path / name)
    assert (code, out) == (6, "")
    assert "would differ from the engine" in err
    assert not list(tmp_path.iterdir())


def test_an_existing_target_is_kept(engine, run, tmp_path, cpu):
    pytest.importorskip("tf2onnx", reason=NEEDS_EXTRA)
    target = tmp_path / "a.onnx"
    target.write_text("mine")
    code, _, err = engine("export", run, target)
    assert (code, target.read_text()) == (4, "mine")
    assert "exists already" in err
    assert engine("export", run, target, "--overwrite")[0] == 0
    assert target.read_bytes() != b"mine"
    folder = tmp_path / "saved"
    folder.mkdir()
    code, _, err = engine("export", run, folder, "--overwrite")
    assert (code, list(folder.iterdir())) == (4, [])


def test_without_the_extra_one_line_names_it(engine, run, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file, "find_spec", lambda name: None)
    code, _, err = engine("export", run, tmp_path / "a.onnx")
    assert code == 2
    assert "needs onnx" in err
    assert "respr-engine[export]" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("name", ["a.keras", "a.pb", "a.nii.gz"])
def test_other_formats_are_refused(engine, run, tmp_path, name):
    code, _, err = engine("export", run, tmp_path / name)
    assert code == 2
    assert "is the name of a file" in err


def test_the_example_gives_the_voxels_of_engine_denoise(
    engine, tmp_path, phantom_hu, cpu, monkeypatch
):
    pytest.importorskip("onnxruntime", reason=NEEDS_EXTRA)
    text = (ROOT / "engine" / "README.md").read_text()
    (code,) = re.findall(r"<!-- onnx -->\n```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0).normal(0, 40, phantom_hu.shape)
    stored = np.rint(phantom_hu + noise).astype(np.int16)[:, :61, :50]  # no multiple of the stride
    tiny.scan_file(Path("scan.nii.gz"), stored, axes="LPS")
    assert engine("export", WEIGHTS, "denoiser.onnx")[0] == 0
    assert engine("denoise", "scan.nii.gz", "-m", WEIGHTS, "-o", "own.nii.gz")[0] == 0
    exec(code, {})
    own = tiny.voxels(Path("own.nii.gz")).astype(np.float32)
    found = nibabel.load("denoised.nii.gz").get_fdata(dtype=np.float32)
    soft = ndimage.maximum_filter(stored, (3, 9, 9)) < 200  # no bone is near
    assert soft.mean() > 0.5
    assert np.abs(found - own)[soft].max() < 0.51  # the engine rounds to the file's int16
    assert np.abs(own - stored)[soft].std() > 10
    np.testing.assert_array_equal(
        nibabel.aff2axcodes(nibabel.load("denoised.nii.gz").affine), tuple("IPL")
    )
