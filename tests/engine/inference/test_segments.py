"""Segments and whole networks in lower precision and through XLA, compared with float32."""

import numpy as np
import pytest

from engine.inference.tiling import Plan, blocks_of
from engine.networks import (
    BiasFreeUNet2D,
    ConvNet3D,
    DnCNN,
    ResidualUNet2D,
    ResNet2D,
    ResPrUNet,
    UNet2D,
    UNet3D,
)
from tests.engine.inference.test_streaming import layers_between

NETWORKS = [
    UNet3D(4, 3), ResPrUNet(4, 2), ConvNet3D((4, 6)), UNet2D(4, 2), ResidualUNet2D(2, 2),
    BiasFreeUNet2D((3, 4)), ResNet2D((4, 6)), DnCNN(4, 3), DnCNN(4, 3, sees_dose=True),
]  # fmt: skip
# Units of the last place of 1: 8 and 11 bits. The layers add up a few of them.
ROUNDED = {"bfloat16": 2.0**-8, "float16": 2.0**-11}
SHAPE = (48, 16, 24)


def image(shape=SHAPE):
    return np.random.default_rng(0).random(shape, np.float32)


def predictor(network, precision="float32", *, xla=False):
    from engine.inference.predictor import Predictor

    model = network.build(seed=1, precision=precision)
    return Predictor(model, 1e5 if network.sees_dose else None, xla=xla, precision=precision)


def plan_of(network, shape=SHAPE, slices=4):
    streamed = network.radius[0] > 0
    return Plan(shape, (slices, *shape[1:]), network, streamed=streamed)


def estimated(network, precision="float32", *, xla=False, plan=None):
    prior = blocks_of(image()[::-1].copy()) if network.sees_prior else None
    found = plan or plan_of(network)
    return predictor(network, precision, xla=xla).volume(found, blocks_of(image()), prior)


@pytest.fixture
def compiled(monkeypatch):
    """The shapes that XLA compiles, each with the function that it compiles, and their count."""
    import tensorflow as tf

    calls: list[tuple[int, tuple]] = []
    make = tf.function

    def watched(*args, **options):
        made = make(*args, **options)
        if not (args and options.get("jit_compile")):  # Keras has some of its own
            return made

        def call(images, *rest):
            calls.append((id(made), tuple(tuple(each.shape) for each in images)))
            return made(images, *rest)

        return call

    monkeypatch.setattr(tf, "function", watched)
    return calls


# -- Precision -------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_lower_precision_rounds_the_layers_and_no_more(cpu, network, precision):
    exact, lower = estimated(network), estimated(network, precision)
    scale = np.abs(exact - (image() if network.sees_prior else 0)).max()
    apart = np.abs(lower - exact)
    assert 0 < apart.max() <= 8 * ROUNDED[precision] * max(scale, 1)
    assert lower.dtype == np.float32


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_the_output_is_a_float32_sum_that_no_lower_precision_has_rounded(cpu, network, precision):
    found = estimated(network, precision)
    bits = {"bfloat16": 16, "float16": 13}[precision]
    rounded = (found.view(np.uint32) & np.uint32(2**bits - 1)) == 0
    assert rounded[found != 0].mean() < 0.01


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("network", [n for n in NETWORKS if n.radius[0]], ids=str)
def test_a_stream_in_lower_precision_gives_the_bits_of_the_untiled_pass(cpu, network, precision):
    whole = estimated(network, precision, plan=Plan(SHAPE, SHAPE, network))
    np.testing.assert_array_equal(estimated(network, precision), whole)


def test_seams_are_probed_in_float32(cpu):
    from engine.inference.predictor import Predictor

    network = UNet3D(2, 2)
    exact = predictor(network)
    lower = Predictor(network.build(precision="bfloat16"), precision="bfloat16", exact=exact)
    exact._beyond = None
    lower._infer = None  # is not asked
    assert lower.beyond_halo(network) == 0


# -- XLA -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_xla_gives_the_estimate_but_for_the_last_bits(cpu, network, compiled):
    found = estimated(network, xla=True)
    assert compiled
    np.testing.assert_allclose(found, estimated(network), rtol=0, atol=1e-5)


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_xla_compiles_each_part_of_a_network_once(cpu, network, compiled):
    from engine.inference.segments import segments

    estimated(network, xla=True)
    parts = len(segments(network.build()))
    shapes = len(set(compiled))
    assert 1 <= shapes <= parts
    assert len(compiled) >= 8 * shapes


@pytest.mark.parametrize("name", layers_between(None))
def test_xla_computes_every_kind_of_layer(cpu, name, compiled):
    import keras
    import tensorflow as tf

    from engine.inference.streaming import Streaming

    keras.utils.set_random_seed(0)
    noisy = keras.Input((None, None, None, 1))
    model = keras.Model(noisy, layers_between(image)[name](noisy))
    voxels = tf.constant(image((64, 16, 12))[None, ..., None])
    stream = Streaming(model, xla=True)
    parts = stream.estimate([lambda a, b: voxels[:, a:b]], 64, 4, 8, xla=True)
    found = np.concatenate([part.numpy() for part in parts], 1)
    np.testing.assert_allclose(found, model(voxels, training=False).numpy(), rtol=0, atol=1e-5)
    by_part: dict[int, set] = {}
    for part, shapes in compiled:
        by_part.setdefault(part, set()).add(shapes)
    assert max(len(shapes) for shapes in by_part.values()) <= 2  # phases of a stride


def test_longer_scans_and_more_of_them_compile_no_more(cpu, compiled):
    network = UNet3D(2, 2)
    one = predictor(network, xla=True)
    counts = []
    for depth in (48, 48, 96, 130):
        shape = (depth, *SHAPE[1:])
        one.volume(plan_of(network, shape), blocks_of(image(shape)), None)
        counts.append(len(set(compiled)))
    assert counts[0] == counts[-1] > 0


def test_a_short_scan_compiles_nothing(cpu, compiled):
    for network in (UNet3D(2, 2), UNet2D(2, 2), DnCNN(2, 2)):
        shape = (6, 16, 16)
        for plan in (plan_of(network, shape, 4), Plan(shape, shape, network)):
            predictor(network, xla=True).volume(plan, blocks_of(image(shape)), None)
    assert not compiled


def test_only_the_columns_of_the_most_frequent_shape_are_compiled(cpu, compiled):
    network, shape = ConvNet3D((2,)), (40, 24, 40)
    plan = Plan(shape, (4, 8, 8), network, streamed=True)
    found = predictor(network, xla=True).volume(plan, blocks_of(image(shape)), None)
    assert len({column.read.shape for column in plan.columns()}) > 1
    assert {shapes[0][2:4] for _, shapes in compiled} != set()
    assert len(set(compiled)) <= 2  # two convolutions
    exact = predictor(network).volume(plan, blocks_of(image(shape)), None)
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-5)


def test_the_same_scan_has_the_same_bits_whatever_came_before(cpu):
    network = UNet3D(2, 2)
    one, shape = predictor(network, xla=True), (48, 16, 16)

    def volume(of):
        return one.volume(plan_of(network, of), blocks_of(image(of)), None)

    first = volume(shape)
    volume((96, 16, 24))
    np.testing.assert_array_equal(volume(shape), first)


def test_without_xla_nothing_is_compiled(cpu, compiled):
    estimated(NETWORKS[0])
    assert not compiled
