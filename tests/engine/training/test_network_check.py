from dataclasses import dataclass, field, fields

import pytest

from engine import networks
from engine.errors import BadUsage
from engine.networks import Network
from engine.networks.layers import dose, image
from engine.training.network_check import check_network

pytestmark = pytest.mark.usefixtures("cpu")
POINT, NEAR = (1, 1, 1), (1, 1, 1)


@dataclass(frozen=True)
class Mine(Network):
    """A network of one convolution, made as a test wants it."""

    body: object = field(compare=False)
    stride: tuple = POINT
    radius: tuple = NEAR
    sees_prior: bool = False
    sees_dose: bool = False
    bytes_per_voxel: int = 1280

    def build(self, *, precision="float32", seed=0):
        import keras

        noisy = image("noisy")
        return keras.Model(noisy, self.body(noisy, seed))


def convolution(x, seed, width=1, name="convolution", **how):
    import keras

    how = {"kernel_initializer": keras.initializers.GlorotUniform(seed=seed), "name": name, **how}
    return keras.layers.Conv3D(width, 3, padding="same", **how)(x)


@pytest.mark.parametrize("kind", [getattr(networks, name) for name in networks.__all__
                                  if name != "Network"])  # fmt: skip
def test_the_networks_of_the_engine_are_what_they_say(kind):
    small = {"width": 4, "levels": 3, "depth": 4, "widths": (3, 4)}
    names = {each.name for each in fields(kind)}
    assert check_network(kind(**{name: small[name] for name in names & set(small)})) == []


def test_a_network_that_is_told_the_dose_is_what_it_says():
    assert check_network(networks.DnCNN(depth=3, width=4, sees_dose=True)) == []


@pytest.mark.parametrize("axis", range(3))
def test_a_radius_that_is_too_small_is_noticed(axis):
    radius = tuple(0 if i == axis else 1 for i in range(3))
    (warning,) = check_network(Mine(convolution, radius=radius))
    assert f"farther along {'ZYX'[axis]} than its radius, 0" in warning


def test_a_network_that_sees_the_whole_image_is_noticed():
    def body(x, seed):
        import keras

        mean = keras.layers.GlobalAveragePooling3D(keepdims=True, name="mean")(x)
        return keras.layers.Multiply(name="scaled")([convolution(x, seed), mean])

    assert len(check_network(Mine(body))) == 3


def test_a_head_of_zeros_hides_nothing():
    def body(x, seed):
        return convolution(convolution(x, seed, 2, "first"), seed, kernel_initializer="zeros")

    assert len(check_network(Mine(body))) == 3


@pytest.mark.parametrize("field", ["stride", "radius"])
@pytest.mark.parametrize("value", [(1, 1), (1, 1, 1.0), (1, 1, -1), 1, (True, 1, 1)])
def test_stride_and_radius_are_three_whole_numbers(field, value):
    with pytest.raises(BadUsage, match=rf"Mine\.{field} is .* not \(Z, Y, X\)"):
        check_network(Mine(convolution, **{field: value}))


def test_a_stride_that_is_wrong_is_refused_with_the_shapes():
    def body(x, seed):
        import keras

        x = keras.layers.MaxPooling3D(2, name="pool")(convolution(x, seed))
        return keras.layers.UpSampling3D(2, name="raise")(x)

    assert check_network(Mine(body, stride=(2, 2, 2), radius=(2, 2, 2))) == []
    with pytest.raises(BadUsage, match=r"makes \(4, 8, 8\) of an image of \(5, 8, 8\)"):
        check_network(Mine(body))


def test_a_layer_without_a_name_is_refused():
    with pytest.raises(BadUsage, match="has a layer without a name"):
        check_network(Mine(lambda x, seed: convolution(x, seed, name=None)))


def test_weights_that_ignore_the_seed_are_noticed():
    (warning,) = check_network(Mine(lambda x, _: convolution(x, None)))
    assert "convolution/kernel does not begin as the seed says" in warning


def test_memory_that_is_too_small_is_noticed():
    def body(x, seed):
        return convolution(convolution(x, seed, 50, "wide"), seed, name="head")

    (warning,) = check_network(Mine(body, bytes_per_voxel=20, radius=(2, 2, 2)))
    assert "bytes_per_voxel is 20, but its layer wide alone needs 204" in warning


def test_inputs_that_the_class_denies_are_refused():
    with pytest.raises(BadUsage, match="a model of 1 inputs, which sees_prior and sees_dose deny"):
        check_network(Mine(convolution, sees_prior=True))


def test_the_dose_must_be_an_input_of_that_name():
    @dataclass(frozen=True)
    class Told(Mine):
        def build(self, *, precision="float32", seed=0):
            import keras

            given = [image("noisy"), keras.Input((1, 1, 1, 1), name="photons")]
            return keras.Model(given, convolution(given[0], seed))

    assert dose().name == "dose"
    with pytest.raises(BadUsage, match="has no input named dose"):
        check_network(Told(convolution, sees_dose=True))


def test_a_network_that_cannot_be_built_is_refused_with_what_it_said():
    with pytest.raises(BadUsage, match=r"Mine\.build\(\) fails with ZeroDivisionError"):
        check_network(Mine(lambda x, seed: 1 / 0))
