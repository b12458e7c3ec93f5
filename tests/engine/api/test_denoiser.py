import nibabel as nib
import numpy as np
import pytest

import engine
from engine.errors import BadInput, BadUsage
from tests.engine.tiny import head, scan_file, voxels
from volumes import nifti

SPACING_MM = (3.0, 0.8, 0.7)
# Of a file alone: its own hash, and the time.
OF_A_FILE = {"output_sha256", "time"}


@pytest.fixture
def noisy_hu(phantom_hu):
    """(12, 64, 64) int16 HU: the phantom under noise, with padding outside the field of view."""
    noisy = phantom_hu + np.random.default_rng(1).normal(0, 60, phantom_hu.shape)
    noisy = np.rint(noisy).astype(np.int16)
    noisy[:, :4], noisy[:, -4:] = -2048, -2048
    return noisy


def written(engine_command, path, run, *words):
    """The voxels and the sidecar that the command writes of a file."""
    from engine.denoising import sidecar
    from engine.output_paths import beside

    code, _, err = engine_command("denoise", path, "-m", run, "-q", *words)
    assert code == 0, err
    place = beside(path, "_denoised")
    return place, sidecar.read(place)


def without(facts, names):
    return {name: value for name, value in facts.items() if name not in names}


@pytest.fixture
def engine_command(request):
    """The command line; the name `engine` is the package's here."""
    return request.getfixturevalue("engine")


@pytest.mark.parametrize("dtype", ["i2", "f4", "f8", "i4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_gives_the_bits_of_the_command(
    engine_command, trained, noisy_hu, tmp_path, dtype, order
):
    hu = np.asarray(noisy_hu, dtype=dtype, order=order)
    path = scan_file(tmp_path / "scan.nii", np.asarray(noisy_hu, f"<{dtype}"))
    place, facts = written(engine_command, path, trained)
    result = engine.load(trained, quiet=True).denoise(hu, spacing_mm=SPACING_MM)
    assert result.output.dtype == hu.dtype
    assert result.output.tobytes() == voxels(place).astype(dtype).tobytes()
    assert (result.output != hu).mean() > 0.5
    ours = {*OF_A_FILE, "input_sha256"}  # the headers differ
    assert without(result.facts, ours) == without(facts, ours)
    assert (
        result.residual_hu.tobytes()
        == (hu.astype(np.float32) - result.output.astype(np.float32)).tobytes()
    )
    np.testing.assert_array_equal(result.hu, result.output.astype(np.float32))


def test_the_hash_of_an_array_is_that_of_its_file(engine_command, trained, noisy_hu, tmp_path):
    path = tmp_path / "scan.nii"
    nifti.write_hu(path, noisy_hu, SPACING_MM)
    _, facts = written(engine_command, path, trained)
    result = engine.denoise(noisy_hu, model=trained, spacing_mm=SPACING_MM, quiet=True)
    assert without(result.facts, OF_A_FILE) == without(facts, OF_A_FILE)


@pytest.mark.parametrize("axes", ["IPL", "RAS", "LPS"])
@pytest.mark.parametrize("packed", [".nii", ".nii.gz"])
def test_an_image_gives_the_file_of_the_command(
    engine_command, trained, noisy_hu, tmp_path, axes, packed
):
    stored = (noisy_hu + 1024).astype(np.int16)
    path = scan_file(tmp_path / f"scan{packed}", stored, axes, slope=1.0, inter=-1024.0)
    place, facts = written(engine_command, path, trained)
    result = engine.denoise(nib.load(path), model=trained, quiet=True)
    assert isinstance(result.output, nib.Nifti1Image)
    nib.save(result.output, tmp_path / "saved.nii")
    np.testing.assert_array_equal(result.output.get_fdata(), nib.load(place).get_fdata())
    np.testing.assert_array_equal(result.output.affine, nib.load(path).affine)
    kept = {*OF_A_FILE, "input_sha256"}  # that of the decompressed file
    assert without(result.facts, kept) == without(facts, kept)
    if packed == ".nii":
        assert result.facts["input_sha256"] == facts["input_sha256"]
        assert result.output.to_bytes()[348:352] == head(path)[348:352]
    by_path = engine.denoise(path, model=trained, quiet=True)
    np.testing.assert_array_equal(by_path.output.get_fdata(), result.output.get_fdata())
    assert without(by_path.facts, OF_A_FILE) == without(facts, OF_A_FILE)


def test_an_image_that_was_made_in_memory_is_denoised(trained, noisy_hu):
    affine = np.diag([-0.7, -0.8, -3.0, 1.0])
    image = nib.Nifti1Image(noisy_hu.T.astype(np.float32), affine)
    result = engine.denoise(image, model=trained, quiet=True)
    array = engine.denoise(
        noisy_hu.astype(np.float32), model=trained, spacing_mm=SPACING_MM, quiet=True
    )
    np.testing.assert_allclose(result.output.get_fdata().T, array.output, atol=1e-3)


def test_a_network_is_loaded_once(trained, noisy_hu, monkeypatch):
    from engine.runs.trained_model import Model

    built = []
    network = Model.network
    monkeypatch.setattr(Model, "network", lambda *a, **k: built.append(1) or network(*a, **k))
    model = engine.load(trained, quiet=True)
    first = model.denoise(noisy_hu, spacing_mm=SPACING_MM)
    second = model.denoise(noisy_hu[:8], spacing_mm=SPACING_MM, strength=0.5)
    assert built == [1]
    assert (first.facts["strength"], second.facts["strength"]) == (1.0, 0.5)
    none = model.denoise(noisy_hu, spacing_mm=SPACING_MM, strength=0.0)
    assert none.output.tobytes() == noisy_hu.tobytes()


def test_an_array_is_not_changed_and_stays_writable(trained, noisy_hu):
    before = noisy_hu.copy()
    engine.denoise(noisy_hu, model=trained, spacing_mm=SPACING_MM, quiet=True)
    assert noisy_hu.flags.writeable
    np.testing.assert_array_equal(noisy_hu, before)


def test_a_model_says_what_it_is(engine_command, trained):
    model = engine.load(trained)
    assert (model.run, model.step) == (trained, 4)
    assert model.recipe.steps == 4
    assert model.fingerprint in engine_command("info", trained)[1]
    assert repr(model) == f"<UNet3D of {trained}, step 4, {model.fingerprint[:12]}>"
    assert engine.load(trained, checkpoint=2).step == 2


def test_the_keras_network_is_that_of_the_checkpoint(trained):
    from engine.runs.trained_model import open_model

    model = engine.load(trained)
    arrays = open_model(model._model.run).arrays
    for variable in model.keras.weights:
        np.testing.assert_array_equal(variable.numpy(), arrays[f"model/{variable.path}"])
    assert model.keras is model.keras


def test_a_prior_may_be_an_array(respr_run, noisy_hu, phantom_hu, tmp_path):
    model = engine.load(respr_run, quiet=True)  # returns its prior
    given = model.denoise(noisy_hu, spacing_mm=SPACING_MM, prior=phantom_hu)
    computed = model.denoise(noisy_hu, spacing_mm=SPACING_MM)
    assert given.facts["second_scan_sha256"]
    inside = (phantom_hu > -900) & (phantom_hu < 100) & (noisy_hu > -2000)
    error = {
        name: np.abs(result.output[inside] - phantom_hu[inside]).mean()
        for name, result in (("given", given), ("computed", computed))
    }
    assert error["given"] < 0.1 < error["computed"]
    with pytest.raises(BadInput, match="is not on the grid of array"):
        model.denoise(noisy_hu, spacing_mm=SPACING_MM, prior=phantom_hu[:8])


@pytest.mark.parametrize(
    ("scan", "options", "words"),
    [
        (np.zeros((4, 8, 8), np.int16), {}, "spacing_mm: is missing, and an array has none"),
        (np.zeros((8, 8), np.int16), {"spacing_mm": (1, 1, 1)}, "array: has the shape 8 x 8"),
        (np.zeros((4, 8, 8), bool), {"spacing_mm": (1, 1, 1)}, "array: is bool, not HU"),
        (np.zeros((4, 8, 8), "f2"), {"spacing_mm": (1, 1, 1)}, "array: is float16, not HU"),
        (np.zeros((4, 8, 8)), {"spacing_mm": (1, 0, 1)}, "spacing_mm: is (1, 0, 1)"),
        (np.linspace(0, 1, 256).reshape(4, 8, 8), {"spacing_mm": (1, 1, 1)},
         "array: is not in Hounsfield units: values range 0..1"),
        (np.full((4, 8, 8), np.nan), {"spacing_mm": (1, 1, 1)}, "array: holds 100.0% voxels"),
        ("nowhere.nii", {}, "nowhere.nii: cannot be read: No such file"),
        ("nowhere.nii", {"spacing_mm": (1, 1, 1)}, "spacing_mm: is given, but nowhere.nii has"),
    ],
)  # fmt: skip
def test_what_is_no_scan_is_refused_in_one_line(trained, scan, options, words):
    with pytest.raises(engine.Refusal) as refused:
        engine.load(trained, quiet=True).denoise(scan, **options)
    assert str(refused.value).startswith(words)


def test_an_image_of_another_format_is_refused(trained):
    image = nib.MGHImage(np.zeros((4, 8, 8), np.float32), np.eye(4))
    with pytest.raises(BadInput, match=r"image: is of the kind MGHImage, not NIfTI"):
        engine.denoise(image, model=trained)


def test_options_are_refused_as_by_the_command(trained, noisy_hu):
    with pytest.raises(BadUsage, match="--photons: the UNet3D takes no dose"):
        engine.denoise(noisy_hu, model=trained, spacing_mm=SPACING_MM, photons=1e5, quiet=True)
    with pytest.raises(BadUsage, match=r"--strength: must lie between 0 and 1[.]5, not 5"):
        engine.denoise(noisy_hu, model=trained, spacing_mm=SPACING_MM, strength=5, quiet=True)
    with pytest.raises(BadUsage, match="--precision: does not accept 'float8'"):
        engine.load(trained, precision="float8")


def test_lower_precision_is_in_the_facts_as_in_a_sidecar(trained, noisy_hu):
    model = engine.load(trained, precision="bfloat16", quiet=True)
    facts = model.denoise(noisy_hu, spacing_mm=SPACING_MM).facts
    assert facts["precision"]["compute"] == "bfloat16"
    exact = engine.denoise(noisy_hu, model=trained, spacing_mm=SPACING_MM, quiet=True)
    assert exact.facts["precision"] == "float32"
