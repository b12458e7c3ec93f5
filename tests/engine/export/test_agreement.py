"""Every network of the recipes is exported and agrees with the engine."""

from pathlib import Path

import numpy as np
import pytest

from engine.errors import NumericalFailure
from engine.export import agreement
from engine.export.export import converted
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
    _, found = converted(model, given, recipe.window)
    assert found < agreement.limit_hu(recipe.window)
    assert len({tuple(shape) for shape in given.shapes}) == 2


def test_a_network_that_sees_the_dose_agrees_and_heeds_it(cpu):
    extra()
    recipe = tiny("lowdose_dncnn", "network.sees_dose=true")
    assert recipe.network == DnCNN(depth=3, width=2, sees_dose=True)
    model = learned(recipe.network, cpu)
    given = agreement.sample(recipe, None)
    made, found = converted(model, given, recipe.window)
    assert found < agreement.limit_hu(recipe.window)
    example = given.examples[0]
    other = {**example, "dose": example["dose"] + 1}
    assert np.abs(made.apply(other) - made.apply(example)).max() > 1e-3


def test_a_batch_of_several_volumes_is_taken(cpu):
    extra()
    recipe = tiny("respr_unet3d")
    model = learned(recipe.network, cpu)
    given = agreement.sample(recipe, None)
    example = given.examples[0]
    both = {name: np.concatenate([image, image[:, ::-1]]) for name, image in example.items()}
    estimate = converted(model, given, recipe.window)[0].apply(both)
    own = model([both["noisy"], both["prior"]], training=False)
    np.testing.assert_allclose(estimate, own, atol=1e-5)


def test_a_graph_that_differs_is_converted_again(cpu, monkeypatch):
    extra()
    recipe = tiny("unet2d")
    model = learned(recipe.network, cpu)
    apply, tried = OnnxNetwork.apply, set()

    def wrong_at_first(made, images):
        tried.add(made)
        return apply(made, images)[None] if len(tried) == 1 else apply(made, images)

    monkeypatch.setattr(OnnxNetwork, "apply", wrong_at_first)
    _, found = converted(model, agreement.sample(recipe, None), recipe.window)
    assert found < agreement.limit_hu(recipe.window)
    assert len(tried) >= 2


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
