from itertools import pairwise

import numpy as np
import pytest

from engine.networks import (
    BiasFreeUNet2D,
    ConvNet2D,
    ConvNet3D,
    DnCNN,
    ResidualUNet2D,
    ResNet2D,
    ResPrUNet,
    UNet2D,
    UNet3D,
)

# (in, out) of the eleven convolutions at width 32, from the reference's table.
DOWN_AND_UP = [
    (32, 32), (32, 64), (64, 64), (64, 128), (128, 64), (128, 64), (64, 32), (64, 32), (32, 32),
]  # fmt: skip
CNN7 = (32, 32, 64, 64, 128, 64, 64, 64, 32)
SMALL = [
    UNet3D(2, 2), UNet2D(2, 2), ResPrUNet(2, 2), ResidualUNet2D(2, 2), ResidualUNet2D(2, 2, False),
    ConvNet3D((2, 3)), ConvNet2D((2, 3)), ResNet2D((2, 3)), DnCNN(3, 2),
    DnCNN(3, 2, normalised=False, bias=True), BiasFreeUNet2D((2, 3)),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _keras(cpu):
    """Networks are built by Keras, which the runtime has set up."""


def shapes(model):
    return [tuple(w.shape) for w in model.trainable_variables if w.path.endswith("kernel")]


def biased(network):
    return [v.path.split("/")[0] for v in network.build().variables if v.path.endswith("/bias")]


def keras_part(model, *layers):
    """The model of the same input whose outputs are those of some layers."""
    import keras

    return keras.Model(model.input, [model.get_layer(layer).output for layer in layers])


def image(shape, seed=0):
    return np.random.default_rng(seed).random((1, *shape, 1), np.float32)


def estimate(network, model, *images):
    given = [*images, *images][:2] if network.sees_prior else images[0]
    return model(given, training=False).numpy()


@pytest.mark.parametrize(
    ("network", "parameters"),
    [
        (UNet3D(32), 996_769), (ResPrUNet(32), 997_633), (UNet2D(32), 332_641),
        (UNet2D(64), 1_328_833), (ResidualUNet2D(), 487_921),
        (ResidualUNet2D(normalised=False), 485_673), (ConvNet3D(), 112_513),
        (ConvNet2D(), 37_633), (ConvNet2D((32, 32)), 9_601), (ConvNet2D(CNN7), 304_993),
        (ConvNet2D((8, 16, 8, 4), pointwise_head=False), 2_737), (ResNet2D(), 337_376),
        (DnCNN(), 558_017), (DnCNN(bias=True), 558_977),
        (DnCNN(normalised=False, bias=True), 555_137), (BiasFreeUNet2D(), 224_544),
        (BiasFreeUNet2D((48, 64, 96)), 877_344),
    ],
    ids=str,
)  # fmt: skip
def test_parameters_are_counted_as_in_the_papers(network, parameters):
    assert network.build().count_params() == parameters


@pytest.mark.parametrize(
    ("network", "statistics"), [(DnCNN(), 1_920), (ResidualUNet2D(), 1_456)], ids=str
)
def test_the_moving_statistics_are_not_learned(network, statistics):
    fixed = network.build().non_trainable_variables
    assert sum(int(np.prod(variable.shape)) for variable in fixed) == statistics


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
    assert biased(DnCNN(5, 2)) == ["convolution1", "head"]
    assert biased(DnCNN(4, 2, bias=True)) == [
        "convolution1",
        "convolution2",
        "convolution3",
        "head",
    ]


def test_a_dncnn_without_normalisation_needs_its_biases():
    assert len(biased(DnCNN(5, 2, normalised=False, bias=True))) == 5
    with pytest.raises(ValueError, match=r"network\.bias must be true"):
        DnCNN(5, 2, normalised=False)


def test_convolutions_of_a_plain_dncnn_are_rectified():
    model = DnCNN(4, 2, normalised=False, bias=True).build()
    inner = [model.get_layer(f"convolution{layer}").activation.__name__ for layer in (1, 2, 3)]
    assert inner == ["relu"] * 3
    assert model.get_layer("head").activation.__name__ == "linear"


def test_the_residual_unet_has_the_layers_of_the_reference_in_their_order():
    widths = [(1, 8), (8, 8), (8, 16), (16, 16), (16, 32), (32, 32), (32, 64), (64, 64), (64, 128),
              (128, 128)]  # fmt: skip
    expected = [(1, 3, 3, a, b) for a, b in widths]
    for width in (64, 32, 16, 8):  # a transposed kernel is (extent, out, in)
        expected.append((1, 2, 2, width, 2 * width))
        expected += [(1, 3, 3, 2 * width, width), (1, 3, 3, width, width)]
    assert shapes(ResidualUNet2D().build()) == [*expected, (1, 3, 3, 8, 1)]
    assert shapes(ResidualUNet2D(normalised=False).build()) == [*expected, (1, 1, 1, 8, 1)]


def test_a_normalised_residual_unet_has_biases_where_no_normalisation_follows():
    assert biased(ResidualUNet2D(2, 3)) == ["down1_a", "raise2", "raise1", "head"]


def test_a_residual_unet_concatenates_the_upsampled_half_before_the_skip():
    model = ResidualUNet2D(2, 2, normalised=False).build()
    joined, skip, below = (model.get_layer(name) for name in ("skip1", "down1_b", "raise1"))
    assert [tensor.name for tensor in joined.input] == [below.output.name, skip.output.name]


def test_the_resnet_projects_the_shortcut_only_where_the_width_changes():
    model = ResNet2D((2, 2, 3, 3)).build()
    shortcuts = [layer.name for layer in model.layers if layer.name.endswith("_shortcut")]
    assert shortcuts == ["unit3_shortcut"]
    assert biased(ResNet2D((2, 3))) == []


def test_a_residual_unit_adds_its_input_before_the_last_relu():
    model = ResNet2D((2, 2)).build()
    for variable in model.get_layer("unit2_b").variables:
        variable.assign(variable * 0)
    between = keras_part(model, "unit1_sum_relu", "unit2_sum_relu")
    before, after = between(image((2, 8, 8)))
    assert before.numpy().max() > 0
    np.testing.assert_array_equal(after.numpy(), before.numpy())


def test_a_skip_is_concatenated_before_the_upsampled_half():
    model = UNet3D(2, 2).build()
    joined, skip, below = (model.get_layer(name) for name in ("skip1", "down1_b", "raise1"))
    assert [tensor.name for tensor in joined.input] == [skip.output.name, below.output.name]


def test_a_prior_unet_with_a_zero_head_returns_the_prior():
    network = ResPrUNet(2, 2)
    model = network.build()
    for variable in model.get_layer("head").variables:
        variable.assign(variable * 0)
    noisy, prior = image((4, 8, 8)), image((4, 8, 8), seed=1)
    np.testing.assert_array_equal(model([noisy, prior]).numpy(), prior)


@pytest.mark.parametrize(
    "network", [DnCNN(3, 2), ResidualUNet2D(2, 2), BiasFreeUNet2D((2, 3))], ids=str
)
def test_a_residual_network_with_a_zero_head_returns_the_noisy_image(network):
    model = network.build()
    for variable in model.get_layer("head").variables:
        variable.assign(variable * 0)
    noisy = image((2, 8, 8))
    np.testing.assert_array_equal(model(noisy).numpy(), noisy)


@pytest.mark.parametrize("network", [DnCNN(3, 2), ResidualUNet2D(2, 2)], ids=str)
def test_a_residual_network_subtracts_the_output_of_its_head(network):
    model = network.build()
    kernel, bias = model.get_layer("head").variables
    kernel.assign(kernel * 0)
    bias.assign([0.25])
    noisy = image((2, 8, 8))
    np.testing.assert_allclose(model(noisy).numpy(), noisy - 0.25, atol=1e-6)


@pytest.mark.parametrize(
    "network",
    [
        UNet2D(2, 3), ResidualUNet2D(2, 3), ConvNet2D((2, 2)), ResNet2D((2, 3)), DnCNN(4, 2),
        BiasFreeUNet2D((2, 3)),
    ],
    ids=str,
)  # fmt: skip
def test_a_2d_network_looks_at_one_slice_at_a_time(network):
    model, noisy = network.build(), image((5, 8, 8))
    changed = noisy.copy()
    changed[:, 2] += 1
    before, after = estimate(network, model, noisy), estimate(network, model, changed)
    differing = np.abs(before - after).max(axis=(0, 2, 3, 4)) > 0
    np.testing.assert_array_equal(differing, [False, False, True, False, False])


@pytest.mark.parametrize("gain", [0.25, 3.0])
def test_a_bias_free_network_scales_with_its_input(gain):
    network = BiasFreeUNet2D((4, 6))
    model, noisy = network.build(), image((2, 16, 16)) - 0.3
    assert biased(network) == []
    scaled, expected = model(gain * noisy).numpy(), gain * model(noisy).numpy()
    assert np.abs(expected - gain * noisy).max() > 0.1  # it is no identity
    np.testing.assert_allclose(scaled, expected, atol=1e-5 * np.abs(expected).max())


def test_a_block_of_a_bias_free_network_adds_its_input_and_hardly_changes_it_at_first():
    model = BiasFreeUNet2D((4, 6)).build()
    before, added, after = keras_part(model, "lower1", "down1_a2", "down1_a_sum")(
        image((1, 16, 16))
    )
    np.testing.assert_allclose(after, before.numpy() + added.numpy(), atol=1e-6)
    assert 0 < np.std(added) < 0.3 * np.std(before)


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
    [
        UNet3D(1, 1), UNet3D(1, 2), UNet3D(1, 3), UNet2D(1, 3), ResPrUNet(1, 2), DnCNN(4, 1),
        DnCNN(4, 1, normalised=False, bias=True), ResidualUNet2D(1, 1), ResidualUNet2D(1, 3),
        ResidualUNet2D(1, 3, normalised=False), ConvNet3D((1, 1)), ConvNet2D((1, 2, 1)),
        ConvNet2D((1, 2), pointwise_head=False), ResNet2D((1, 1, 2)), BiasFreeUNet2D((1,)),
        BiasFreeUNet2D((1, 2)), BiasFreeUNet2D((1, 1, 1)),
    ],
    ids=str,
)  # fmt: skip
def test_the_radius_is_the_receptive_radius(network, axis):
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
def test_the_same_seed_gives_the_same_weights_in_every_process_state(network):
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
        (UNet3D, (0, 3)), (UNet3D, (32, 0)), (UNet2D, (-1, 3)), (ResPrUNet, (32, 0)),
        (DnCNN, (1, 64)), (ResidualUNet2D, (0, 5)), (ResidualUNet2D, (8, 0)), (ConvNet3D, ((),)),
        (ConvNet2D, ((32, 0),)), (ResNet2D, ((),)), (ResNet2D, ((-1,),)), (BiasFreeUNet2D, ((),)),
        (BiasFreeUNet2D, ((24, 0),)),
    ],
)  # fmt: skip
def test_a_network_without_layers_or_channels_is_refused(kind, fields):
    with pytest.raises(ValueError, match="network"):
        kind(*fields)


@pytest.fixture(params=["channels_first", "float16", "float64", "mixed_float16", "epsilon"])
def changed_defaults(request):
    """Defaults of Keras as a user's keras.json or notebook may have set them."""
    from keras import config

    kept = config.floatx(), config.epsilon(), config.image_data_format(), config.dtype_policy()
    if request.param == "channels_first":
        config.set_image_data_format("channels_first")
    elif request.param == "epsilon":
        config.set_epsilon(0.1)
    elif request.param == "mixed_float16":
        config.set_dtype_policy("mixed_float16")
    else:
        config.set_floatx(request.param)
        config.set_dtype_policy(request.param)
    yield
    config.set_floatx(kept[0])
    config.set_epsilon(kept[1])
    config.set_image_data_format(kept[2])
    config.set_dtype_policy(kept[3])


@pytest.fixture(scope="module")
def by_default(cpu):
    """The estimates of all networks with the defaults of Keras."""
    return [estimates(network) for network in (*SMALL, *TOLD)]


TOLD = [DnCNN(3, 2, sees_dose=True), ResidualUNet2D(2, 2, sees_dose=True)]


def estimates(network):
    model = network.build(seed=1)
    given = [image((4, 8, 8))]
    given += [image((4, 8, 8), 1)] * network.sees_prior
    given += [np.ones((1, 1, 1, 1, 1), np.float32)] * network.sees_dose
    found = model(given if len(given) > 1 else given[0], training=True)
    return found.dtype.name, found.numpy().tobytes()


def test_the_defaults_of_keras_change_no_network(by_default, changed_defaults):
    assert [estimates(network) for network in (*SMALL, *TOLD)] == by_default
