"""Weights in Keras 2's layout, written here with h5py alone, become a run."""

import base64
import json
import marshal
import re
import shutil

import h5py
import numpy as np
import pytest
from scipy.signal import correlate2d

from engine.checkpoints import checkpoint
from engine.comparison.compare import Comparison, compare
from engine.comparison.methods import resolve_methods
from engine.comparison.noise_levels import added_levels
from engine.inference.predictor import Predictor
from engine.inference.tiling import blocks_of, plan
from engine.runs.run import Run
from engine.runs.trained_model import open_model
from tests.engine.tiny import scan_file, voxels
from volumes import NeighbourMean, Window, nifti
from volumes.volume import Volume

SMALL = ("network.width=2", "network.levels=2")
# (inputs, outputs, side) of the convolutions of that network, in its order.
CONVOLUTIONS = [(1, 2, 3), (2, 2, 3), (2, 4, 3), (4, 2, 3), (4, 2, 3), (2, 2, 3), (2, 1, 1)]


@pytest.fixture(autouse=True)
def _keras(cpu):
    """Networks are built by Keras, which the runtime has set up."""


@pytest.fixture
def weights():
    """Kernels (y, x, in, out) and biases of a small 2D U-Net, whose estimate is about 0.5."""
    rng = np.random.default_rng(0)
    found = [
        (rng.normal(0, 0.4, (side, side, i, o)), rng.normal(0, 0.1, o))
        for i, o, side in CONVOLUTIONS
    ]
    return [*found[:-1], (np.array([0.3, -0.2]).reshape(1, 1, 2, 1), np.array([0.5]))]


def keras2(path, layers, group="model_weights", **attributes):
    """A file as Keras 2 saves it: layers by name, each a list of (name, array)."""
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = b"2.2.4"
        for name, value in attributes.items():
            file.attrs[name] = value
        top = file.create_group(group) if group else file
        top.attrs["layer_names"] = np.array([name.encode() for name in layers])
        for name, arrays in layers.items():
            layer = top.create_group(name)
            names = [f"{name}/{kind}:0".encode() for kind, _ in arrays]
            layer.attrs["weight_names"] = np.array(names)
            for kind, array in arrays:
                layer[f"{name}/{kind}:0"] = np.asarray(array, np.float32)
    return path


def unet(weights):
    """The layers of the small 2D U-Net; those between convolutions have no weights."""
    layers = {"input_1": []}
    for i, (kernel, bias) in enumerate(weights, 1):
        layers[f"conv2d_{i}"] = [("kernel", kernel), ("bias", bias)]
        if i in (2, 4):
            layers[f"between_{i}"] = []
    return layers


def convolved(image, kernel, bias, *, relu=True):
    """(Y, X, in) -> (Y, X, out), by scipy."""
    inputs, outputs = kernel.shape[2:]
    channels = [
        sum(correlate2d(image[..., i], kernel[..., i, o], "same") for i in range(inputs)) + bias[o]
        for o in range(outputs)
    ]
    return np.maximum(np.stack(channels, -1), 0) if relu else np.stack(channels, -1)


def by_hand(weights, image):
    """The small 2D U-Net of one slice (Y, X)."""
    skip = convolved(convolved(image[..., None], *weights[0]), *weights[1])
    y, x, c = skip.shape
    low = skip.reshape(y // 2, 2, x // 2, 2, c).max((1, 3))
    low = convolved(convolved(low, *weights[2]), *weights[3])
    joined = np.concatenate([skip, low.repeat(2, 0).repeat(2, 1)], -1)
    last = convolved(convolved(joined, *weights[4]), *weights[5])
    return convolved(last, *weights[6], relu=False)[..., 0]


def estimate(run, noisy):
    model = open_model(run)
    return Predictor.of(model).volume(
        plan(noisy.shape, model.recipe.network), blocks_of(noisy), None
    )


@pytest.fixture
def imported(engine, tmp_path):
    """Imports a file with the command line; gives its result."""

    def call(path, *more, network="unet2d", run=tmp_path / "run"):
        return engine("import", path, "--network", network, "--run", run, *more)

    return call


def assert_refused(result, code, path):
    assert result[:2] == (code, "")
    assert re.fullmatch(rf"engine: error: {re.escape(str(path))}: .+\. .+\.\n", result[2])
    return result[2]


# -- What is imported ------------------------------------------------------------------------------


@pytest.mark.parametrize("group", ["model_weights", None], ids=["save", "save_weights"])
def test_an_imported_network_is_the_2d_network_slice_by_slice(imported, weights, tmp_path, group):
    path = keras2(tmp_path / "unet.h5", unet(weights), group)
    assert imported(path, *SMALL) == (0, f"{tmp_path / 'run'}\n", "")
    noisy = np.random.default_rng(1).random((3, 8, 12), np.float32)
    found = estimate(Run(tmp_path / "run"), noisy)
    assert found.std() > 0.01
    for slice_, image in zip(found, noisy, strict=True):
        np.testing.assert_allclose(slice_, by_hand(weights, image), atol=1e-5)


def test_an_imported_network_is_that_of_keras_own_2d_layers(imported, tmp_path):
    import keras

    keras.utils.set_random_seed(0)
    image = keras.Input((None, None, 1))
    x = keras.layers.Conv2D(3, 3, padding="same", activation="relu")(image)
    y = keras.layers.Conv2D(3, 3, padding="same", use_bias=False)(x)
    y = keras.layers.BatchNormalization()(y)
    noise = keras.layers.Conv2D(1, 3, padding="same")(keras.layers.ReLU()(y))
    model = keras.Model(image, keras.layers.Subtract()([image, noise]))
    layers = {}
    for layer in model.layers:
        rng = np.random.default_rng(len(layers))
        layer.set_weights([rng.uniform(0.1, 0.5, v.shape) for v in layer.get_weights()])
        layers[layer.name] = [(v.name, v.numpy()) for v in layer.variables]
    path = keras2(tmp_path / "dncnn.h5", layers)
    more = ("network.depth=3", "network.width=3")
    assert imported(path, *more, network="dncnn")[0] == 0
    noisy = np.random.default_rng(1).random((2, 8, 8), np.float32)
    expected = model(noisy[..., None]).numpy()[..., 0]
    np.testing.assert_allclose(estimate(Run(tmp_path / "run"), noisy), expected, atol=1e-4)


def test_volumetric_kernels_are_taken_as_they_are(imported, tmp_path):
    rng = np.random.default_rng(0)
    arrays = [rng.random((3, 3, 3, 1, 1)), rng.random(1)] * 2 + [rng.random((1, 1, 1, 1, 1)), [0.5]]
    layers = {
        f"conv3d_{i}": [("kernel", arrays[2 * i]), ("bias", arrays[2 * i + 1])] for i in range(3)
    }
    path = keras2(tmp_path / "unet3d.h5", layers)
    result = imported(path, "network.width=1", "network.levels=1", network="unet3d")
    assert result[0] == 0
    saved = checkpoint.load(Run(tmp_path / "run").checkpoint("last"))
    for found, array in zip(saved.values(), arrays, strict=True):
        np.testing.assert_array_equal(found, np.asarray(array, np.float32))


def test_names_may_be_text_as_well_as_bytes(imported, weights, tmp_path):
    path = keras2(tmp_path / "unet.h5", unet(weights))
    with h5py.File(path, "r+") as file:
        group = file["model_weights"]
        names = [name.decode() for name in group.attrs["layer_names"]]
        group.attrs["layer_names"] = names
    assert imported(path, *SMALL)[0] == 0


def test_the_order_is_that_of_the_layers_not_of_their_names(imported, weights, tmp_path):
    layers = {f"{99 - i}": arrays for i, arrays in enumerate(unet(weights).values())}
    assert imported(keras2(tmp_path / "unet.h5", layers), *SMALL)[0] == 0
    noisy = np.random.default_rng(1).random((1, 8, 8), np.float32)
    found = estimate(Run(tmp_path / "run"), noisy)
    np.testing.assert_allclose(found[0], by_hand(weights, noisy[0]), atol=1e-5)


# -- The run ---------------------------------------------------------------------------------------


@pytest.fixture
def run(imported, weights, tmp_path):
    """The folder of a run that holds the small 2D U-Net."""
    assert imported(keras2(tmp_path / "unet.h5", unet(weights)), *SMALL)[0] == 0
    return tmp_path / "run"


def test_an_imported_run_has_one_checkpoint_of_step_0_and_no_cases(run):
    assert checkpoint.steps(Run(run).checkpoints) == [0]
    assert Run(run).record().content["cases"] == {}
    assert len(Run(run).record().content["imported_sha256"]) == 64


def test_an_imported_run_can_be_looked_at(engine, run):
    code, out, _ = engine("info", run)
    assert code == 0
    assert "UNet2D(width=2, levels=2)" in out


def test_an_imported_run_can_denoise(engine, run, tmp_path, weights):
    hu = np.random.default_rng(0).integers(-900, 300, (2, 16, 16), np.int16)
    scan = scan_file(tmp_path / "scan.nii", hu)
    assert engine("denoise", scan, "-m", run)[0] == 0
    expected = 1400 * by_hand(weights, (hu[1] + 1000) / 1400) - 1000
    found = voxels(tmp_path / "scan_denoised.nii")[1]
    inside = (expected > -1000) & (expected < 400)
    assert inside.mean() > 0.1
    np.testing.assert_allclose(found[inside], expected[inside], atol=1)


def test_an_imported_run_can_be_evaluated_on_every_case(engine, run, dataset, tmp_path):
    words = ("--data", dataset, "--split", "all", "--slices", "2", "-o", tmp_path / "report")
    code, out, _ = engine("evaluate", run, "noisy", *words, "-q")
    assert code == 0
    assert "run: UNet2D(width=2, levels=2) at step 0\n" in out
    assert (tmp_path / "report" / "scores.csv").read_text().count("\nrun,case_") == 4


def test_the_same_weights_may_be_imported_again(imported, run, tmp_path):
    before = checkpoint.fingerprint(Run(run).checkpoint("last"))
    assert imported(tmp_path / "unet.h5", *SMALL)[0] == 0
    assert checkpoint.fingerprint(Run(run).checkpoint("last")) == before


def test_other_weights_do_not_replace_a_run(imported, run, weights, tmp_path):
    before = checkpoint.fingerprint(Run(run).checkpoint("last"))
    other = keras2(tmp_path / "other.h5", unet([(kernel + 1, bias) for kernel, bias in weights]))
    assert_refused(imported(other, *SMALL), 5, run)
    assert checkpoint.fingerprint(Run(run).checkpoint("last")) == before


def test_weights_do_not_replace_a_training(imported, trained, weights, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    result = imported(keras2(tmp_path / "unet.h5", unet(weights)), *SMALL)
    assert_refused(result, 5, tmp_path / "run")
    assert checkpoint.steps(Run(tmp_path / "run").checkpoints) == [2, 4]


# -- What is refused -------------------------------------------------------------------------------


def test_another_number_of_arrays_is_refused(imported, weights, tmp_path):
    path = keras2(tmp_path / "unet.h5", unet(weights[:-1]))
    said = assert_refused(imported(path, *SMALL), 5, path)
    assert "holds 12 arrays, the network has 14" in said
    assert not (tmp_path / "run").exists()


def test_an_array_of_another_shape_is_refused_by_name(imported, weights, tmp_path):
    weights[2] = (np.zeros((3, 3, 2, 5)), np.zeros(5))
    path = keras2(tmp_path / "unet.h5", unet(weights))
    said = assert_refused(imported(path, *SMALL), 5, path)
    assert "conv2d_3/kernel:0 of shape (3, 3, 2, 5)" in said
    assert "bottom_a/kernel of (1, 3, 3, 2, 4)" in said
    assert not (tmp_path / "run").exists()


def test_slices_kernels_do_not_fit_a_volumetric_network(imported, weights, tmp_path):
    path = keras2(tmp_path / "unet.h5", unet(weights))
    said = assert_refused(imported(path, *SMALL, network="unet3d"), 5, path)
    assert "(3, 3, 3, 1, 2)" in said


def lacking(path):
    """HDF5, but no weights of Keras."""
    with h5py.File(path, "w") as file:
        file["data"] = np.zeros(3)


def keras3(path):
    """The layout of Keras 3's own .weights.h5."""
    with h5py.File(path, "w") as file:
        file["layers/conv2d/vars/0"] = np.zeros((3, 3, 1, 2))


def absent(path):
    """Names an array that is not there."""
    with h5py.File(keras2(path, {"conv2d": [("kernel", np.zeros((3, 3, 1, 2)))]}), "r+") as file:
        del file["model_weights/conv2d/conv2d/kernel:0"]


def numbered(path):
    """Names its layers by numbers."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [1, 2]


def worded(path):
    """Holds words where numbers should be."""
    with h5py.File(keras2(path, {"conv2d": [("kernel", np.zeros(3))]}), "r+") as file:
        del file["model_weights/conv2d/conv2d/kernel:0"]
        file["model_weights/conv2d/conv2d/kernel:0"] = [b"three", b"words", b"here"]


def cut(path):
    """Ends in its middle."""
    keras2(path, {"conv2d": [("kernel", np.zeros((64, 64)))]})
    path.write_bytes(path.read_bytes()[:4000])


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_bytes(b"\x93NUMPY\x01\x00"),
        lambda path: path.write_text("kernel,bias\n1,2\n"),
        lambda path: path.write_bytes(b""),
        lambda path: None,
        lambda path: path.mkdir(),
        lacking, keras3, absent, numbered, worded, cut,
    ],
    ids=["numpy", "text", "empty", "missing", "folder", "no Keras", "Keras 3", "absent", "numbered",
         "worded", "cut"],
)  # fmt: skip
def test_a_file_that_holds_no_weights_of_keras_2_is_refused(imported, tmp_path, make):
    path = tmp_path / "weights.h5"
    make(path)
    assert_refused(imported(path, *SMALL), 3, path)
    assert not (tmp_path / "run").exists()


def test_an_unknown_network_is_refused_with_2(imported, weights, tmp_path):
    path = keras2(tmp_path / "unet.h5", unet(weights))
    code, out, err = imported(path, network="unet2e")
    assert (code, out) == (2, "")
    assert "Did you mean unet2d?" in err


def test_nothing_that_the_file_holds_is_executed(imported, weights, tmp_path):
    mark = tmp_path / "executed"
    code = compile(f"open({str(mark)!r}, 'w').close()", "<file>", "exec")
    function = [base64.b64encode(marshal.dumps(code)).decode(), None, None]
    layer = {"class_name": "Lambda", "config": {"name": "evil", "function": function}}
    model = {"class_name": "Sequential", "config": {"name": "evil", "layers": [layer]}}
    path = keras2(
        tmp_path / "unet.h5", unet(weights), model_config=json.dumps(model).encode(),
        training_config=b"__import__('os').abort()",
    )  # fmt: skip
    assert imported(path, *SMALL)[0] == 0
    assert not mark.exists()
    noisy = np.random.default_rng(1).random((1, 8, 8), np.float32)
    found = estimate(Run(tmp_path / "run"), noisy)
    np.testing.assert_allclose(found[0], by_hand(weights, noisy[0]), atol=1e-5)


# -- Released weights ------------------------------------------------------------------------------


@pytest.mark.real_ct
def test_a_released_2d_u_net_takes_noise_from_a_real_scan(imported, real_ct, tmp_path):
    found = sorted((real_ct.parent / "weights").glob("*UNet_32_noisepc5_model_best.h5"))
    if not found:
        pytest.skip("beside the real CT volumes lie no released weights")
    assert imported(found[0])[0] == 0
    scan = min(real_ct.glob("*/imaging.nii.gz"), key=lambda path: path.stat().st_size)
    hu = nifti.open_scan(scan).read_hu()
    volume = Volume(hu[len(hu) // 2 :][:3], (3.0, 0.8, 0.8), scan.parent.name, "")
    methods = resolve_methods([str(tmp_path / "run"), "noisy"], "best")
    levels = added_levels("gaussian:0.05")
    comparison = Comparison(methods, [volume], [], levels, Window(), NeighbourMean())
    rows, _, _ = compare(comparison, lambda text: None)
    psnr = {row.method: row.scores["psnr_db"] for row in rows}
    assert psnr["run"] > psnr["noisy"] + 5
