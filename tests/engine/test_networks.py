from itertools import pairwise

import numpy as np
import pytest

from engine.networks import DnCNN, ResPrUNet, UNet2D, UNet3D

# (in, out) of the eleven convolutions at width 32, from the reference's table.
DOWN_AND_UP = [
    (32, 32), (32, 64), (64, 64), (64, 128), (128, 64), (128, 64), (64, 32), (64, 32), (32, 32),
]  # fmt: skip
SMALL = [UNet3D(2, 2), UNet2D(2, 2), ResPrUNet(2, 2), DnCNN(3, 2)]


@pytest.fixture(autouse=True)
def _keras(cpu):
    """Networks are built by Keras, which the runtime has set up."""


def shapes(model):
    return [tuple(w.shape) for w in model.trainable_variables if w.path.endswith("kernel")]


def image(shape, seed=0):
    return np.random.default_rng(seed).random((1, *shape, 1), np.float32)


def estimate(network, model, *images):
    given = [*images, *images][:2] if network.sees_prior else images[0]
    return model(given, training=False).numpy()


@pytest.mark.parametrize(
    ("network", "parameters"),
    [
        (UNet3D(32), 996_769), (ResPrUNet(32), 997_633), (UNet2D(32), 332_641), (DnCNN(), 558_017),
    ],
)  # fmt: skip
def test_parameters_are_counted_as_in_the_papers(network, parameters):
    assert network.build().count_params() == parameters


def test_the_moving_statistics_of_dncnn_are_not_learned():
    learned = DnCNN().build().trainable_variables
    assert sum(int(np.prod(variable.shape)) for variable in learned) == 556_097


def test_the_3d_unet_has_the_layers_of_the_reference_in_their_order():
    body = [(3, 3, 3, a, b) for a, b in [(1, 32), *DOWN_AND_UP]]
    assert shapes(UNet3D(32).build()) == [*body, (1, 1, 1, 32, 1)]


def test_the_2d_unet_has_the_same_layers_without_depth():
    body = [(1, 3, 3, a, b) for a, b in [(1, 32), *DOWN_AND_UP]]
    assert shapes(UNet2D(32).build()) == [*body, (1, 1, 1, 32, 1)]


def test_the_prior_is_a_second_channel_of_the_first_layer_only():
    without, with_prior = shapes(UNet3D(32).build()), shapes(ResPrUNet(32).build())
    assert with_prior[0] == (3, 3, 3, 2, 32)
    assert with_prior[1:] == without[1:]


def test_dncnn_is_seventeen_convolutions_within_slices():
    middle = [(1, 3, 3, 64, 64)] * 15
    assert shapes(DnCNN().build()) == [(1, 3, 3, 1, 64), *middle, (1, 3, 3, 64, 1)]


def test_dncnn_has_biases_where_no_normalisation_follows():
    biased = [v.path.split("/")[0] for v in DnCNN(5, 2).build().variables if "bias" in v.path]
    assert biased == ["convolution1", "head"]


def test_a_skip_is_joined_before_what_comes_from_below():
    model = UNet3D(2, 2).build()
    joined, skip, below = (model.get_layer(name) for name in ("skip1", "down1_b", "raise1"))
    assert [tensor.name for tensor in joined.input] == [skip.output.name, below.output.name]


def test_a_prior_unet_with_a_silent_head_returns_the_prior():
    network = ResPrUNet(2, 2)
    model = network.build()
    for variable in model.get_layer("head").variables:
        variable.assign(variable * 0)
    noisy, prior = image((4, 8, 8)), image((4, 8, 8), seed=1)
    np.testing.assert_array_equal(model([noisy, prior]).numpy(), prior)


def test_dncnn_with_a_silent_head_returns_the_noisy_image():
    model = DnCNN(3, 2).build()
    for variable in model.get_layer("head").variables:
        variable.assign(variable * 0)
    noisy = image((2, 8, 8))
    np.testing.assert_array_equal(model(noisy).numpy(), noisy)


def test_dncnn_subtracts_what_its_head_says():
    model = DnCNN(3, 2).build()
    kernel, bias = model.get_layer("head").variables
    kernel.assign(kernel * 0)
    bias.assign([0.25])
    noisy = image((2, 8, 8))
    np.testing.assert_allclose(model(noisy).numpy(), noisy - 0.25, atol=1e-6)


@pytest.mark.parametrize("network", [UNet2D(2, 3), DnCNN(4, 2)], ids=str)
def test_a_2d_network_looks_at_one_slice_at_a_time(network):
    model, noisy = network.build(), image((5, 8, 8))
    changed = noisy.copy()
    changed[:, 2] += 1
    before, after = estimate(network, model, noisy), estimate(network, model, changed)
    differing = np.abs(before - after).max(axis=(0, 2, 3, 4)) > 0
    np.testing.assert_array_equal(differing, [False, False, True, False, False])


def positive(network):
    """The network with kernels by which every voxel that can be reached is reached."""
    model = network.build()
    for variable in model.trainable_variables:
        if variable.path.endswith("kernel"):
            variable.assign(np.full(variable.shape, 1 / np.prod(variable.shape[:-1])))
    return model


def reach(network, axis):
    """How far along an axis each voxel of one period of the stride is felt."""
    stride, radius = network.stride[axis], network.radius[axis]
    shape = list(network.stride)
    first = stride * -(-radius // stride) + stride  # room on either side
    shape[axis] = 2 * first + stride
    empty = np.zeros((stride, *shape, 1), np.float32)
    touched = empty.copy()
    for offset in range(stride):
        place = [0, 0, 0]
        place[axis] = first + offset
        touched[(offset, *place, 0)] = 1
    model = positive(network)
    pair = [[image, image] if network.sees_prior else image for image in (touched, empty)]
    change = np.abs(model(pair[0]).numpy() - model(pair[1]).numpy())
    other = tuple(a for a in (1, 2, 3, 4) if a != axis + 1)
    felt = change.max(axis=other) > 0
    places = np.arange(shape[axis])
    return [int(np.abs(places[felt[o]] - (first + o)).max()) for o in range(stride)]


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(
    "network",
    [UNet3D(1, 1), UNet3D(1, 2), UNet3D(1, 3), UNet2D(1, 3), ResPrUNet(1, 2), DnCNN(4, 1)],
    ids=str,
)
def test_an_estimate_depends_on_nothing_beyond_the_radius_and_nearly_reaches_it(network, axis):
    reached = reach(network, axis)
    assert max(reached) <= network.radius[axis]
    assert max(reached) > network.radius[axis] - network.stride[axis]


@pytest.mark.parametrize("network", SMALL, ids=str)
def test_any_shape_that_is_a_multiple_of_the_stride_comes_back_as_it_is(network):
    model = network.build()
    for multiple in (1, 3):
        shape = tuple(multiple * step for step in network.stride)
        assert estimate(network, model, image(shape)).shape == (1, *shape, 1)


@pytest.mark.parametrize("network", SMALL, ids=str)
def test_the_same_seed_gives_the_same_weights_whatever_was_built_before(network):
    first = network.build(seed=3).get_weights()
    UNet3D(3, 1).build(seed=3)
    second = network.build(seed=3).get_weights()
    assert len(first) == len(second)
    assert all((a == b).all() for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("network", SMALL, ids=str)
def test_another_seed_gives_other_kernels(network):
    kernels = [
        [v.numpy() for v in network.build(seed=seed).variables if "kernel" in v.path]
        for seed in (0, 1)
    ]
    assert all((a != b).all() for a, b in zip(*kernels, strict=True))


def test_layers_of_one_shape_start_from_different_weights():
    kernels = [v.numpy() for v in DnCNN(6, 4).build().variables if "kernel" in v.path]
    inner = kernels[1:-1]
    assert all((a != b).any() for a, b in pairwise(inner))


@pytest.mark.parametrize("network", SMALL, ids=str)
def test_variables_are_named_alike_in_every_build(network):
    assert [v.path for v in network.build().variables] == [
        v.path for v in network.build().variables
    ]


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("network", SMALL, ids=str)
def test_estimates_are_float32_in_every_precision(network, precision):
    model = network.build(precision=precision)
    found = estimate(network, model, image((2, 8, 8)))
    assert found.dtype == np.float32
    assert np.isfinite(found).all()


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_lower_precision_computes_in_it_and_stores_in_float32(precision):
    model = UNet3D(2, 2).build(precision=precision)
    assert model.get_layer("down1_a").compute_dtype == precision
    assert {v.dtype for v in model.variables} == {"float32"}
    assert model.get_layer("head").compute_dtype == "float32"


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (UNet3D, (0, 3)),
        (UNet3D, (32, 0)),
        (UNet2D, (-1, 3)),
        (ResPrUNet, (32, 0)),
        (DnCNN, (1, 64)),
    ],
)
def test_a_network_without_layers_or_channels_is_refused(kind, fields):
    with pytest.raises(ValueError, match="network"):
        kind(*fields)
