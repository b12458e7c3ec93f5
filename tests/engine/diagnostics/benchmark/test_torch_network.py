import numpy as np
import pytest

from engine.diagnostics.benchmark.torch_network import TorchNetwork, TorchTraining
from engine.networks import ResidualUNet2D, ResPrUNet, UNet2D, UNet3D

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("network", [UNet3D(3, 3), UNet3D(2, 1), UNet2D(3, 2)], ids=str)
def test_a_u_net_gives_the_estimate_of_keras(cpu, network):
    model = network.build(seed=1)
    for variable in model.weights:  # biases start at zero
        variable.assign(variable + 0.01)
    image = np.random.default_rng(0).random((1, 8, 12, 16, 1), np.float32)
    wanted = model(image).numpy()[..., 0]
    found = TorchNetwork(model)(torch.from_numpy(image[..., 0])[None])
    assert np.ptp(wanted) > 0.01
    np.testing.assert_allclose(found.numpy()[0], wanted, atol=1e-5)


def test_a_network_with_a_prior_and_a_residual_gives_the_estimate_of_keras(cpu):
    model = ResPrUNet(width=2, levels=2).build(seed=1)
    rng = np.random.default_rng(0)
    images = [rng.random((1, 4, 8, 8, 1), np.float32) for _ in range(2)]
    wanted = model(images).numpy()[..., 0]
    found = TorchNetwork(model)(*(torch.from_numpy(image[..., 0])[None] for image in images))
    np.testing.assert_allclose(found.numpy()[0], wanted, atol=1e-5)


def test_training_steps_have_the_losses_of_keras(cpu):
    import keras

    model = ResPrUNet(width=2, levels=2).build(seed=1)
    rng = np.random.default_rng(0)
    *images, clean = (rng.random((1, 4, 8, 8, 1), np.float32) for _ in range(3))
    training = TorchTraining(model, 1e-2)
    given = [torch.from_numpy(image[..., 0])[None] for image in (*images, clean)]
    found = [training.step(given[:2], given[2]) for _ in range(4)]
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    wanted = [model.train_on_batch(images, clean) for _ in range(4)]
    np.testing.assert_allclose(found, np.ravel(wanted), rtol=1e-3)
    assert found[-1] < found[0]


def test_a_layer_that_a_plain_u_net_does_not_have_is_refused(cpu):
    layer = r"down1_b is a layer \(Conv3D\)"  # without bias
    with pytest.raises(ValueError, match=layer):
        TorchNetwork(ResidualUNet2D(width=2, levels=2).build())
