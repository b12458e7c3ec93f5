"""Every network of the recipes is exported and agrees with the engine."""

from pathlib import Path

import numpy as np
import pytest

from engine.errors import NumericalFailure
from engine.export import agreement
from engine.export.export import served
from engine.export.onnx_file import OnnxNetwork
from engine.networks import DnCNN
from tests.engine.tiny import tiny

RECIPES = sorted(
    path.stem
    for path in (Path(__file__).parents[3] / "recipes").glob("*.py")
    if path.stem[0] != "_"
)
NAMES = {tiny(name).network: name for name in RECIPES}


def learned(network, cpu):
    """The Keras model whose biases and statistics are not those of the start."""
    model = network.build()
    rng = np.random.default_rng(0)
    for variable in model.weights:
        if np.ptp(variable.numpy()) == 0:
            variable.assign(variable.numpy() + rng.uniform(0.02, 0.2, variable.shape))
    return model


def extra():
    pytest.importorskip("tf2onnx", reason="the extra [export] is not installed")
    pytest.importorskip("onnxruntime", reason="the extra [export] is not installed")


@pytest.mark.parametrize("name", NAMES.values())
def test_every_network_of_the_recipes_agrees_as_onnx(name, cpu):
    extra()
    recipe = tiny(name)
    model = learned(recipe.network, cpu)
    given = agreement.sample(recipe, None)
    found = agreement.largest_difference_hu(
        model, OnnxNetwork(*served(model)).apply, given, recipe.window
    )
    assert found < agreement.limit_hu(recipe.window)
    assert len({tuple(shape) for shape in given.shapes}) == 2


def test_a_network_that_sees_the_dose_agrees_and_heeds_it(cpu):
    extra()
    recipe = tiny("lowdose_dncnn", "network.sees_dose=true")
    assert recipe.network == DnCNN(depth=3, width=2, sees_dose=True)
    model = learned(recipe.network, cpu)
    made = OnnxNetwork(*served(model))
    given = agreement.sample(recipe, None)
    found = agreement.largest_difference_hu(model, made.apply, given, recipe.window)
    assert found < agreement.limit_hu(recipe.window)
    example = given.examples[0]
    other = {**example, "dose": example["dose"] + 1}
    assert np.abs(made.apply(other) - made.apply(example)).max() > 1e-3


def test_a_batch_of_several_volumes_is_taken(cpu):
    extra()
    recipe = tiny("respr_unet3d")
    model = learned(recipe.network, cpu)
    example = agreement.sample(recipe, None).examples[0]
    both = {name: np.concatenate([image, image[:, ::-1]]) for name, image in example.items()}
    estimate = OnnxNetwork(*served(model)).apply(both)
    own = model([both["noisy"], both["prior"]], training=False)
    np.testing.assert_allclose(estimate, own, atol=1e-5)


def test_a_difference_counts_in_hu_and_another_shape_counts_as_infinite(cpu):
    recipe = tiny("unet2d")
    model = learned(recipe.network, cpu)
    given = agreement.sample(recipe, None)

    def shifted(images):
        return np.asarray(model(images["noisy"], training=False)) + np.float32(0.5 / 1400)

    found = agreement.largest_difference_hu(model, shifted, given, recipe.window)
    assert found == pytest.approx(0.5, abs=0.01)
    cropped = agreement.largest_difference_hu(
        model, lambda images: shifted(images)[:, :1], given, recipe.window
    )
    assert cropped == np.inf
    for bad in (found, cropped, float("nan")):
        with pytest.raises(NumericalFailure, match=r"x\.onnx: would differ"):
            agreement.refuse_different(Path("x.onnx"), bad, recipe.window)
