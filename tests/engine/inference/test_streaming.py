import numpy as np
import pytest

from engine import runtime
from engine.inference import tiling
from engine.inference.prior_image import prior_blocks
from engine.inference.segments import segments
from engine.inference.streamed_layers import UnknownLayerError
from engine.inference.streaming import Streaming
from engine.inference.tiling import Plan, blocks_of, plan
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
from volumes import NeighbourMean
from volumes.storage import memory

NETWORKS = [
    UNet3D(3, 1), UNet3D(4, 3), UNet3D(2, 4), ResPrUNet(4, 3), ResPrUNet(2, 2), ConvNet3D((4, 6)),
    ConvNet3D((4,), pointwise_head=False), UNet2D(2, 3), ResidualUNet2D(2, 3),
    ResidualUNet2D(2, 2, normalised=False, sees_dose=True), BiasFreeUNet2D((3, 4)),
    ConvNet2D((4,)), ResNet2D((4, 6)), DnCNN(4, 3), DnCNN(4, 3, sees_dose=True),
]  # fmt: skip
DEEP = [network for network in NETWORKS if network.radius[0]]
SHAPES = [
    (1, 1, 1), (1, 9, 8), (1, 24, 17), (2, 3, 5), (2, 20, 20), (3, 16, 31), (4, 8, 8), (5, 33, 17),
    (6, 12, 40), (7, 7, 7), (8, 16, 16), (9, 1, 12), (11, 20, 13), (13, 16, 16), (16, 24, 16),
    (17, 5, 9), (19, 32, 8), (23, 9, 9), (30, 21, 16), (41, 8, 12),
]  # fmt: skip
STEPS = (1, 2, 3, 5, 8, 64)
PHOTONS = 1e5
# Transposed convolutions whose kernels overlap are summed in another order where they are cropped.
ROUNDED = {"strided and transposed": 1e-6, "wide strided and transposed": 1e-6}


@pytest.fixture(scope="module")
def built(cpu):
    """Each network's predictor and stream. Biases are not zero, so that edges could show."""
    from engine.inference.predictor import Predictor

    pairs = {}
    for network in NETWORKS:
        model = network.build(seed=1)
        for variable in model.trainable_variables:
            if variable.path.endswith(("bias", "beta")):
                variable.assign(variable + 0.1)
        pairs[network] = Predictor(model, PHOTONS if network.sees_dose else None), Streaming(model)
    return pairs


def noisy(shape):
    return np.random.default_rng(0).random(shape, np.float32)


def estimate(predictor, network, image, found: Plan):
    prior = None
    if network.sees_prior:
        prior = prior_blocks(NeighbourMean(radius=2), blocks_of(image), len(image), 3.0)
    return predictor.volume(found, blocks_of(image), prior)


def untiled(predictor, network, image):
    return estimate(predictor, network, image, Plan(image.shape, image.shape, network))


def streamed(predictor, network, image, tile):
    return estimate(predictor, network, image, Plan(image.shape, tile, network, streamed=True))


# -- Exactness -------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_a_stream_gives_the_bits_of_the_untiled_pass(built, network):
    predictor, _ = built[network]
    for number, shape in enumerate(SHAPES):
        image, step = noisy(shape), STEPS[number % len(STEPS)]
        found = streamed(predictor, network, image, (step, *shape[1:]))
        np.testing.assert_array_equal(found, untiled(predictor, network, image), str(shape))


@pytest.mark.parametrize("network", DEEP[:4], ids=str)
def test_the_number_of_slices_at_a_time_changes_no_bit(built, network):
    predictor, _ = built[network]
    image = noisy((21, 20, 16))
    whole = untiled(predictor, network, image)
    for step in STEPS:
        found = streamed(predictor, network, image, (step, 20, 16))  # at most
        np.testing.assert_array_equal(found, whole, str(step))


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_the_untiled_pass_is_that_of_the_model_whatever_came_before(built, network):
    predictor, _ = built[network]
    found = [untiled(predictor, network, noisy((8, 16, n))) for n in (16, 24, 16)]
    np.testing.assert_array_equal(found[0], found[2])


@pytest.mark.parametrize("network", DEEP, ids=str)
def test_columns_leave_no_seams(built, network):
    predictor, _ = built[network]
    image = noisy((9, 70, 50))
    found = streamed(predictor, network, image, (2, 32, 20))
    np.testing.assert_allclose(found, untiled(predictor, network, image), rtol=0, atol=1e-6)


def layers_between(image):
    """Graphs of layers by name: each from an image to one of the same shape."""
    from keras import layers as k

    return {
        "convolutions of any extent": lambda x: k.Conv3D(
            2, (2, 4, 1), padding="same", activation="relu"
        )(k.Conv3D(3, (5, 3, 2), padding="same")(x)),
        "dilated": lambda x: k.Conv3D(2, 3, padding="same", dilation_rate=2)(x),
        "strided and transposed": lambda x: k.Conv3DTranspose(2, 3, 2, padding="same")(
            k.Conv3D(3, 3, 2, padding="same")(x)
        ),
        "wide strided and transposed": lambda x: k.Conv3DTranspose(2, 5, 2, padding="same")(
            k.Conv3D(3, 4, 2, padding="same", use_bias=False)(x)
        ),
        "blocks": lambda x: k.Conv3DTranspose(2, 2, 4, padding="same", activation="tanh")(
            k.Conv3D(3, 4, 4)(x)
        ),
        "pools": lambda x: k.UpSampling3D((4, 2, 2))(
            k.MaxPooling3D((2, 1, 1))(k.AveragePooling3D(2)(k.Conv3D(3, 3, padding="same")(x)))
        ),
        "sums": lambda x: k.Maximum()(
            [k.LeakyReLU()(k.Conv3D(2, 3, padding="same")(x)), k.Multiply()([x, x])]
        ),
        "normalised": lambda x: k.ELU()(
            k.BatchNormalization()(k.Dropout(0.5)(k.Conv3D(2, 3, padding="same")(x)))
        ),
        "a shortcut around many": lambda x: k.Concatenate()(
            [x, k.Conv3D(1, 9, padding="same")(k.Conv3D(1, 9, padding="same")(x)), x]
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", layers_between(None))
def test_every_kind_of_layer_gives_its_bits(cpu, name):
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    image = keras.Input((None, None, None, 1))
    model = keras.Model(image, layers_between(image)[name](image))
    stream = Streaming(model)
    for depth in (4, 8, 20):
        voxels = tf.constant(noisy((1, depth, 16, 12, 1)))
        whole = model(voxels, training=False).numpy()
        for step in (1, 2, 3, 7, 32):
            parts = stream.estimate([lambda a, b, v=voxels: v[:, a:b]], depth, step, 5)
            found = np.concatenate([part.numpy() for part in parts], 1)
            np.testing.assert_allclose(found, whole, rtol=0, atol=ROUNDED.get(name, 0))


# -- Work and memory -------------------------------------------------------------------------------


def followed(stream: Streaming, inputs: int, depth: int, step: int) -> tuple[int, list[int]]:
    """The most slices that a stream keeps, and how many slices each layer computed."""
    import tensorflow as tf

    image = tf.zeros((1, depth, 8, 8, 1))
    stages, output = stream.stages([lambda a, b: image[:, a:b]] * inputs, depth, step)
    reader, most = output.reader(), 0
    while output.after < depth:
        for stage in stages:
            stage.advance()
            most = max(most, sum(len(kept) for each in stages for kept in each.outputs))
        output.release(reader, output.after)
    kept = [(kept.after, kept.depth) for stage in stages for kept in stage.outputs]
    assert all(after == full for after, full in kept)
    return most, [after for after, _ in kept]


@pytest.mark.parametrize("network", DEEP, ids=str)
def test_the_kept_slices_do_not_grow_with_the_volume(built, network):
    _, stream = built[network]
    inputs = 1 + network.sees_prior
    few, more = (followed(stream, inputs, depth, 2)[0] for depth in (128, 256))
    assert few == more < 128 * inputs


def test_every_slice_of_every_layer_is_computed_once(built):
    _, stream = built[UNet3D(4, 3)]
    assert sorted(set(followed(stream, 1, 40, 3)[1])) == [10, 20, 40]


def test_a_convolution_keeps_two_slices(built):
    _, stream = built[ConvNet3D((4, 6))]
    assert followed(stream, 1, 64, 1)[0] == 2 + 2 + 1  # of the image, of a layer, and a new one


def test_a_2d_network_is_one_segment_and_keeps_nothing(built):
    for network in NETWORKS:
        assert (len(segments(network.build())) == 1) == (network.radius[0] == 0), network


# -- Unknown layers --------------------------------------------------------------------------------


def unknown():
    import keras

    class Relu(keras.layers.ReLU):
        pass

    twice = keras.layers.Conv3D(1, 1)
    return {
        "group": keras.layers.GroupNormalization(groups=1),
        "lambda": keras.layers.Lambda(lambda x: x - 1),
        "activation": keras.layers.Activation(lambda x: x - keras.ops.mean(x)),
        "axis": keras.layers.Softmax(axis=1),
        "subclass": Relu(),
        "pool": keras.layers.MaxPooling3D(3, 1, padding="same"),
        "twice": lambda x: twice(twice(x)),
        "constant": lambda x: 1 - x,
    }


@pytest.mark.parametrize(
    "name", ["group", "lambda", "activation", "axis", "subclass", "pool", "twice", "constant"]
)
def test_a_network_with_an_unknown_layer_is_tiled(cpu, name):
    import keras

    from engine.inference.predictor import Predictor

    noisy_ = keras.Input((None, None, None, 1))
    model = keras.Model(noisy_, unknown()[name](noisy_))
    with pytest.raises(UnknownLayerError):
        Streaming(model)
    network, image = UNet3D(2, 2), noisy((6, 10, 9))
    found = streamed(Predictor(model), network, image, (2, 10, 9))
    np.testing.assert_array_equal(found, untiled(Predictor(model), network, image))
    stream = Plan(image.shape, (2, 10, 9), network, streamed=True)
    assert not Predictor(model).planned(stream).streamed
    assert Predictor(network.build(seed=0)).planned(stream) == stream


def test_a_depth_that_a_layer_cannot_halve_is_no_stream(cpu):
    import keras

    noisy_ = keras.Input((None, None, None, 1))
    pooled = keras.layers.MaxPooling3D(2, padding="same")(noisy_)
    stream = Streaming(keras.Model(noisy_, keras.layers.UpSampling3D(2)(pooled)))
    assert stream.takes(8)
    assert not stream.takes(7)


# -- Plans -----------------------------------------------------------------------------------------


def test_planes_that_fit_are_streamed_whole(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: 16 * 2**30)
    for depth in (100, 10_000):
        found = plan((depth, 512, 512), ResPrUNet(32))
        assert found.streamed
        assert (found.step, found.tile) == (2, (8, 512, 512))
        assert found.count == -(-depth // 8)
        assert found.bytes == plan((50, 512, 512), ResPrUNet(32)).bytes < 4 * 2**30


def test_planes_that_do_not_fit_are_streamed_in_columns(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: 4 * 2**30)
    found = plan((100, 512, 512), ResPrUNet(32))
    assert found.streamed
    assert found.tile == (8, 256, 256)
    assert found.count == 13 * 4
    assert str(found) == "52 slabs of 8 x 256 x 256, streamed along Z in 4 columns, halo 23 x 23"


def test_the_slabs_cover_every_voxel_once():
    written = np.zeros((5, 33, 47), int)
    for tile in Plan((5, 33, 47), (2, 8, 20), UNet3D(2, 2), streamed=True).tiles():
        written[tile.keep.slices] += 1
    assert (written == 1).all()


def test_a_plan_for_any_machine_streams_whole_planes(monkeypatch):
    found = []
    for free_gib in (1, 64):
        monkeypatch.setattr(memory, "free_bytes", lambda free=free_gib: free * 2**30)
        found.append(plan((300, 512, 512), ResPrUNet(32), anywhere=True))
    assert found[0] == found[1]
    assert found[0].tile == (8, 512, 512)


def test_the_slices_at_a_time_depend_on_the_plane_alone(monkeypatch):
    for free_gib in (1, 4, 64):
        monkeypatch.setattr(memory, "free_bytes", lambda free=free_gib: free * 2**30)
        assert plan((300, 512, 512), UNet3D(32)).step == 2
        assert plan((300, 128, 128), UNet3D(32)).step == 4


def on_gpu(monkeypatch, gib, host_gib=1):
    monkeypatch.setattr(runtime, "gpu_bytes", lambda: int(gib * 2**30))
    monkeypatch.setattr(memory, "free_bytes", lambda: host_gib * 2**30)


@pytest.mark.parametrize(("gib", "step", "tile"), [
    (139, 8, (8, 512, 512)), (16, 8, (8, 512, 512)), (8, 8, (8, 512, 512)), (5, 4, (8, 512, 512)),
    (4, 2, (8, 512, 256)), (1, 2, (8, 256, 128)),
])  # fmt: skip
def test_on_a_gpu_its_memory_decides_and_not_that_of_the_host(monkeypatch, gib, step, tile):
    on_gpu(monkeypatch, gib)
    found = plan((1059, 512, 512), ResPrUNet(32))
    assert (found.step, found.tile) == (step, tile)
    assert found.bytes <= min(gib / 2, 8) * 2**30
    on_gpu(monkeypatch, gib, host_gib=512)
    assert plan((1059, 512, 512), ResPrUNet(32)) == found


@pytest.mark.parametrize("gib", [0.5, 4, 16, 139])
@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_no_plan_needs_more_than_half_of_the_gpu(monkeypatch, network, gib):
    on_gpu(monkeypatch, gib)
    for shape in ((1059, 512, 512), (1, 2048, 2048), (40, 64, 64), (3, 1024, 1024)):
        assert plan(shape, network).bytes <= gib / 2 * 2**30


def test_reproducible_plans_know_no_gpu(monkeypatch):
    shape, network = (300, 512, 512), ResPrUNet(32)
    without = plan(shape, network, anywhere=True)
    on_gpu(monkeypatch, 139)
    with_gpu = plan(shape, network, anywhere=True)
    assert with_gpu == without
    assert with_gpu.step == without.step == 2


def test_a_plan_made_on_a_gpu_is_repeated_on_a_cpu_in_its_own_steps(monkeypatch):
    shape, network = (300, 512, 512), ResPrUNet(32)
    on_gpu(monkeypatch, 139)
    tile = plan(shape, network).tile
    monkeypatch.undo()
    again = plan(shape, network, tile, streamed=True)
    assert (again.step, again.tile) == (2, tile)


def test_larger_steps_give_the_same_estimate(built):
    predictor, _ = built[UNet3D(4, 3)]
    image = noisy((30, 16, 16))
    found = Plan(image.shape, (8, 16, 16), UNet3D(4, 3), True, step_bytes=2**31)
    whole = untiled(predictor, UNet3D(4, 3), image)
    np.testing.assert_array_equal(estimate(predictor, UNet3D(4, 3), image, found), whole)


def test_2d_networks_are_not_streamed():
    assert not plan((300, 512, 512), UNet2D(32)).streamed


def test_the_words_of_a_plan_say_how_the_volume_is_cut():
    assert str(Plan((6, 20, 24), (6, 8, 8), UNet3D(2, 2))) == (
        "9 tiles that keep 6 x 8 x 8, halo 9 x 9 x 9"
    )
    whole = Plan((6, 20, 24), (2, 20, 24), UNet3D(2, 2), streamed=True)
    assert str(whole) == "3 slabs of 2 x 20 x 24, streamed along Z"
    assert whole.about() == {"count": 3, "shape": (2, 20, 24), "streamed": True}
    assert tiling.Plan((6, 20, 24), (6, 8, 8), UNet3D(2, 2)).about()["count"] == 9
