import numpy as np
import pytest

from engine.diagnostics.benchmark.torch_network import TorchNetwork
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


@pytest.mark.parametrize(
    ("network", "layer"),
    [
        (ResidualUNet2D(width=2, levels=2), r"down1_b is a layer \(Conv3D\)"),  # without bias
        (ResPrUNet(width=2, levels=2), r"estimate is a layer \(Add\)"),
    ],
    ids=str,
)
def test_a_layer_that_a_plain_u_net_does_not_have_is_refused(cpu, network, layer):
    with pytest.raises(ValueError, match=layer):
        TorchNetwork(network.build())
